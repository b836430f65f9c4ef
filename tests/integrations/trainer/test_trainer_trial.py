"""`fastprune.attach` scores one batch when training begins: what cannot work fails before the first step."""

from __future__ import annotations

import datasets
import pytest
import torch
from helpers import toy_trainer as toy
from transformers import BertForSequenceClassification, TrainerCallback

import fastprune


class NoOutputs(toy.Recorder):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return model(**inputs).loss


class Preferences(toy.Recorder):
    """Like a trainer for DPO: pairs without labels, metrics for outputs."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        chosen, rejected = (model(input_ids=inputs[name]).logits.logsumexp(-1) for name in ("input_ids", "rejected"))
        loss = -torch.nn.functional.logsigmoid(chosen - rejected).mean()
        return (loss, {"margins": chosen - rejected}) if return_outputs else loss


def with_fields(**columns):
    table = toy.rows()
    table.pop("labels", None)
    return datasets.Dataset.from_dict({**table, **columns})


def packed(samples):
    """Padding-free: the examples of a batch become one row."""
    tokens = torch.cat([torch.as_tensor(sample["input_ids"]) for sample in samples])[None, :16]
    return {"input_ids": tokens, "labels": tokens % 3}


def preferences(make):
    data = with_fields(rejected=toy.rows()["input_ids"][::-1])
    return make(Preferences, data=data, remove_unused_columns=False)


def several_labels(make):
    data = with_fields(labels=[[float(i % 2), 1.0, 0.0] for i in range(toy.N)])
    return make(net=toy.model(problem_type="multi_label_classification"), data=data)


def packed_rows(make):
    return make(net=toy.token_model(), data=toy.PlainDataset(), data_collator=packed)


def two_scores(outputs, inputs):
    return {"loss": outputs["logits"][:, 0], "margin": outputs["logits"][:, 0]}


REFUSED = {
    "preferences": (preferences, {}, ValueError, r"exactly one field of labels.*has \[\].*not TRL's.*score_fn"),
    "packed rows": (packed_rows, {}, ValueError, "batch of 32 examples gave 1 scores.*one row for each.*score_fn"),
    "packed rows, free": (packed_rows, {"method": "el2n-free"}, RuntimeError, "hold 8 examples.*a pass of its own"),
    "grand": (several_labels, {"method": "grand"}, ValueError, "its head is multi_label: pass score_fn"),
    "no outputs": (lambda make: make(NoOutputs), {}, ValueError, "honour return_outputs"),
    "no outputs, free": (lambda make: make(NoOutputs), {"method": "el2n-free"}, ValueError, "honour return_outputs"),
    "other metrics": (lambda make: make(), {"score_fn": two_scores}, KeyError, r"reads \['el2n'\]"),
    "scores of tokens": (
        lambda make: make(),
        {"score_fn": lambda outputs, inputs: outputs["logits"]},
        ValueError,
        "pass one score per example",
    ),
    "one score": (lambda make: make(), {"score_fn": lambda outputs, inputs: outputs["loss"]}, ValueError, "gave 1 sc"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_scored_fails_before_the_first_step(make, case):
    build, options, error, message = REFUSED[case]
    trainer = build(make)
    trainer.eval_dataset = None
    fastprune.attach(trainer, **{"keep_fraction": 0.5, "method": "el2n", **options})
    with pytest.raises(error, match=message):
        trainer.train()
    assert trainer.batches == [] and trainer.state.global_step == 0


@pytest.mark.parametrize("kind, options", [(NoOutputs, {}), (toy.Recorder, {"score_fn": two_scores})])
def test_keeping_everything_scores_nothing(make, kind, options):
    """So what cannot be scored is no reason to stop, neither before the first step nor after the warm-up."""
    plain, pruned = make(kind), make(kind)
    for trainer in (plain, pruned):
        trainer.eval_dataset = None
    pruner = fastprune.attach(pruned, keep_fraction=1.0, method="el2n", **options)
    forwards = []
    pruned.model.register_forward_hook(lambda net, *_: forwards.append(net.training))
    for trainer in (plain, pruned):
        torch.manual_seed(11)
        trainer.train()
    toy.assert_same_weights(pruned, plain)
    assert pruned.batches == plain.batches and len(forwards) == len(pruned.batches) and all(forwards)
    assert pruner.history.empty


def own_scalar(outputs, labels, num_items_in_batch=None):
    return torch.nn.functional.cross_entropy(outputs["logits"], labels)


class Penalised(BertForSequenceClassification):
    def forward(self, input_ids, attention_mask=None, labels=None):
        outputs = super().forward(input_ids, attention_mask=attention_mask, labels=labels)
        if outputs.loss is not None:
            outputs.loss = outputs.loss + 1.0
        return outputs


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda make: make(compute_loss_func=own_scalar), r"compute_loss_func returned \(\) for a batch of 8"),
        (lambda make: make(net=toy.model(Penalised)), "a loss of its own, whose examples cannot be weighted"),
    ],
    ids=["own", "model's"],
)
def test_losses_that_cannot_be_weighted_fail_before_the_first_step(make, build, message):
    trainer = build(make)
    fastprune.attach(trainer, keep_fraction=0.5, method="infobatch")
    with pytest.raises(ValueError, match=message):
        trainer.train()
    assert trainer.batches == [] and trainer.state.global_step == 0
    own = trainer.compute_loss_func
    assert own is not None and "_try_losses" not in own.__qualname__


class Forwards(TrainerCallback):
    """Counts forward passes in eval mode until the first step."""

    def __init__(self, net) -> None:
        self.count = 0
        self.handle = net.register_forward_hook(self._count)

    def _count(self, net, inputs, outputs):
        self.count += not net.training

    def on_step_begin(self, args, state, control, **kwargs):
        self.handle.remove()


@pytest.mark.parametrize(
    "method, options, expected",
    [
        ("el2n", {"keep_fraction": 0.5}, 1),
        ("el2n-free", {"keep_fraction": 0.5}, 1),
        ("infobatch", {"keep_fraction": 0.5}, 2),
        ("el2n", {"keep_fraction": 1.0}, 0),
        ("el2n-free", {"keep_fraction": 1.0}, 0),
        ("infobatch", {"keep_fraction": 1.0}, 0),
        ("random", {"keep_fraction": 0.5}, 0),
        ("rs2", {"keep_fraction": 0.5}, 0),
        ("full", {"keep_fraction": 0.5}, 0),
        ("el2n", {"keep_fraction": 0.5, "warmup_epochs": 2}, 0),
    ],
)
def test_one_batch_is_scored_where_scores_are_needed(make, method, options, expected):
    net = toy.model()
    forwards = Forwards(net)
    trainer = make(net=net, callbacks=[forwards], max_steps=12, per_device_train_batch_size=5)
    pruner = fastprune.attach(trainer, method=method, **options)
    trainer.train()
    assert forwards.count == expected
    assert pruner.history.visits.max() <= 2


def test_a_run_that_has_its_scores_already_is_not_tried_again(make, tmp_path):
    settings = {"save_strategy": "epoch", "num_train_epochs": 3, "per_device_train_batch_size": 5}
    whole = make(data=toy.hub_dataset(), **settings)
    fastprune.attach(whole, keep_fraction=0.5, method="el2n-static")
    whole.train()
    net = toy.model()
    forwards = Forwards(net)
    again = make(net=net, folder="again", callbacks=[forwards], **settings)
    fastprune.attach(again, keep_fraction=0.5, method="el2n-static")
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-15"))
    assert forwards.count == 0
    toy.assert_same_weights(again, whole)
