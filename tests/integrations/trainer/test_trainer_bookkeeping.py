"""What a Trainer counts, collects and logs is about training and evaluation, never about the scoring pass."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from helpers import toy_trainer as toy

import fastprune


class Collecting(toy.Recorder):
    """Collects metrics in its loss, by the mode of the model, as TRL's SFTTrainer does."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
        self._total_train_tokens = 0
        self.forwards = torch.zeros((), dtype=torch.int64)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        mode = "train" if self.model.training else "eval"
        loss, outputs = super().compute_loss(model, dict(inputs), True, num_items_in_batch)
        right = (outputs["logits"].argmax(-1) == inputs["labels"]).float().mean().item()
        self._metrics[mode]["accuracy"].append(right)
        self._metrics[mode]["examples"].append(len(inputs["labels"]))
        self._total_train_tokens += inputs["input_ids"].numel()
        self.state.num_input_tokens_seen += inputs["input_ids"].numel()
        self.forwards += 1
        self.log({"auxiliary": right})
        return (loss, outputs) if return_outputs else loss

    def log(self, logs, *args):
        if "auxiliary" in logs:
            super().log(logs, *args)
            return
        mode = "train" if self.model.training else "eval"
        prefix = "" if mode == "train" else "eval_"
        found = {prefix + key: sum(values) / len(values) for key, values in self._metrics[mode].items()}
        super().log({**logs, **found}, *args)
        self._metrics[mode].clear()


@pytest.mark.parametrize("method", ["el2n", "el2n-free"])
def test_the_scoring_pass_is_not_counted(make, method):
    """At learning rate 0 every evaluation gives the same metrics."""
    settings = {"eval_strategy": "epoch", "learning_rate": 0.0, "logging_strategy": "epoch", "num_train_epochs": 4}
    plain, pruned = make(Collecting, **settings), make(Collecting, **settings)
    fastprune.attach(pruned, keep_fraction=0.5, method=method)
    for trainer in (plain, pruned):
        trainer.train()
    expected = toy.logged(plain, "eval_accuracy")[0]
    for entry in toy.logged(pruned, "eval_accuracy"):
        assert entry["eval_accuracy"] == expected["eval_accuracy"]
        assert entry["eval_examples"] == expected["eval_examples"]
    evaluations = 4
    forwards = len(pruned.batches) + 3 * evaluations
    examples = len(pruned.trained_on) + 20 * evaluations
    assert int(pruned.forwards) == forwards == len(toy.logged(pruned, "auxiliary"))
    assert pruned._total_train_tokens == pruned.state.num_input_tokens_seen == toy.WIDTH * examples


class Augmented(toy.PlainDataset):
    """Drops tokens, with a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(3)

    def __getitem__(self, index):
        found = super().__getitem__(index)
        found["input_ids"][1:] *= torch.rand(toy.WIDTH - 1, generator=self.generator) > 0.3
        return found


class Shuffling:
    """A collator with a generator of its own."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(4)

    def __call__(self, samples):
        order = torch.randperm(toy.WIDTH - 1, generator=self.generator)
        batch = {key: torch.stack([sample[key] for sample in samples]) for key in samples[0]}
        batch["input_ids"] = torch.cat([batch["input_ids"][:, :1], batch["input_ids"][:, 1:][:, order]], 1)
        return batch


def test_random_generators_of_data_and_collator_go_on_as_without_the_pass(make):
    plain, pruned = (make(data=Augmented(), data_collator=Shuffling(), num_train_epochs=3) for _ in range(2))
    fastprune.attach(pruned, method="el2n", keep_fraction=1.0)
    for trainer in (plain, pruned):
        trainer.eval_dataset = None
    states = [toy.train(plain), toy.train(pruned)]
    assert torch.equal(*states) and pruned.batches == plain.batches
    toy.assert_same_weights(pruned, plain)
