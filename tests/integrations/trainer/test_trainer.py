"""`fastprune.attach`: nothing changes at keep_fraction 1, and what the plan says happens below it."""

from __future__ import annotations

import gc
import math
import weakref
from typing import ClassVar

import pytest
import torch
from helpers import toy_trainer as toy
from transformers import TrainerCallback

import fastprune
from fastprune.pruning.chunks import chunk_pieces

METHODS = ["el2n", "el2n-free"]


def cross_entropy_of(outputs, labels, num_items_in_batch=None):
    return torch.nn.functional.cross_entropy(outputs["logits"], labels)


# --- keep_fraction = 1 changes nothing -------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("data", [toy.hub_dataset, toy.PlainDataset])
@pytest.mark.parametrize("settings", [{}, {"gradient_accumulation_steps": 3}], ids=["plain", "accumulation"])
def test_keeping_everything_changes_nothing(make, method, data, settings):
    plain, pruned = make(data=data(), **settings), make(data=data(), **settings)
    fastprune.attach(pruned, keep_fraction=1.0, method=method)
    random_states = [toy.train(plain), toy.train(pruned)]
    assert pruned.batches == plain.batches
    toy.assert_same_weights(pruned, plain)
    assert torch.equal(*random_states)
    assert pruned.state.global_step == plain.state.global_step
    assert pruned.state.epoch == plain.state.epoch


@pytest.mark.parametrize(
    "settings",
    [
        {"data_seed": 5},
        {"max_steps": 10},
        {"num_train_epochs": 2.3},
        {"dataloader_drop_last": True},
        {"label_smoothing_factor": 0.1},
        {"eval_strategy": "epoch", "logging_strategy": "steps", "logging_steps": 3},
        {"compute_loss_func": cross_entropy_of},
        {"model_init": lambda: toy.model()},
    ],
    ids=[
        "data_seed",
        "max_steps",
        "part of an epoch",
        "drop_last",
        "smoothing",
        "evaluation",
        "loss_func",
        "model_init",
    ],
)
def test_keeping_everything_changes_nothing_in_other_setups(make, settings):
    plain, pruned = make(**settings), make(**settings)
    fastprune.attach(pruned, keep_fraction=1.0, method="el2n-free")
    random_states = [toy.train(plain), toy.train(pruned)]
    assert pruned.batches == plain.batches
    toy.assert_same_weights(pruned, plain)
    assert torch.equal(*random_states)
    timing = ("runtime", "per_second")
    keys = [k for entry in plain.state.log_history for k in entry if not any(t in k for t in timing)]
    for key in set(keys):
        others = [e for e in toy.logged(pruned, key) if "prune/churn" not in e]
        assert [e[key] for e in others] == [e[key] for e in toy.logged(plain, key)]


def test_order_is_that_of_the_random_state_at_training_like_accelerates(make):
    """Scripts that seed after building the Trainer get another order from accelerate, and so from us."""
    plain, pruned = make(num_train_epochs=1), make(num_train_epochs=1)
    fastprune.attach(pruned, method="el2n", keep_fraction=1.0)
    for trainer in (plain, pruned):
        torch.manual_seed(12345)
        trainer.train()
    assert pruned.batches == plain.batches


# --- the plan is what happens ----------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("keep", [0.3, 0.5])
def test_trains_on_what_the_plan_says(make, method, keep):
    trainer = make(num_train_epochs=4, per_device_train_batch_size=4)
    kept: list[set[int]] = []
    pruner = fastprune.attach(trainer, keep_fraction=keep, warmup_epochs=2, method=method)

    class Kept(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            if "prune/churn" in logs:
                kept.append(set(pruner.kept_indices.tolist()))

    trainer.add_callback(Kept())
    trainer.train()

    pieces = chunk_pieces(pruner.driver.phases(4), 4)
    v, k = len(pieces[0]), round(keep * toy.N)
    assert {len(piece) for piece in pieces} == {v}
    steps = len(pieces) * -(-v // 4)
    assert trainer.state.global_step == trainer.state.max_steps == steps == len(trainer.batches)
    seen = trainer.trained_on
    assert len(seen) == len(pieces) * v

    warmup = sum(len(piece) for piece in pieces if piece.phase.index == 0)
    for start in (0, toy.N):
        assert sorted(seen[start : start + toy.N]) == list(range(toy.N))
    assert len(kept) == 2 and all(len(s) == k for s in kept)
    cycle = (len(seen) - warmup) // 2
    for number, chosen in enumerate(kept):
        stretch = seen[warmup + number * cycle : warmup + (number + 1) * cycle]
        assert set(stretch[:k]) == chosen
        assert set(stretch) == chosen


@pytest.mark.parametrize("data", [toy.hub_dataset, toy.PlainDataset])
def test_keeps_the_highest_scores_of_the_model_at_that_moment(make, data):
    """The pass agrees with scores computed by hand, in eval mode, at the end of the warm-up."""
    trainer = make(data=data(), num_train_epochs=2)
    pruner = fastprune.attach(trainer, method="el2n", keep_fraction=0.4)
    expected = []

    class ByHand(TrainerCallback):
        def on_epoch_end(self, args, state, control, model=None, **kwargs):
            if state.epoch == 1.0:
                batch = {name: torch.tensor(column) for name, column in toy.rows().items()}
                model.eval()
                with torch.no_grad():
                    probabilities = model(**batch).logits.double().softmax(-1)
                error = probabilities - torch.nn.functional.one_hot(batch["labels"], 3)
                expected.append(error.norm(dim=-1))

    trainer.add_callback(ByHand())
    trainer.train()
    scores = pruner.history.value("el2n")
    torch.testing.assert_close(scores.double(), expected[0], rtol=1e-5, atol=0)
    assert torch.equal(pruner.kept_indices, fastprune.select_topk(scores, 20))


def test_free_scores_are_those_of_the_training_step(make):
    """Every example's score is the one its own logits had when it was last trained on."""
    trainer = make(num_train_epochs=2, per_device_train_batch_size=4, gradient_accumulation_steps=2)
    last: dict[int, float] = {}
    original = trainer.compute_loss

    def spy(model, inputs, return_outputs=False, **kwargs):
        ids = inputs["input_ids"][:, 0].tolist()
        labels = inputs["labels"].clone()
        loss, outputs = original(model, inputs, return_outputs=True, **kwargs)
        last.update(zip(ids, fastprune.el2n(outputs["logits"].detach(), labels).tolist(), strict=True))
        return (loss, outputs) if return_outputs else loss

    trainer.compute_loss = spy
    pruner = fastprune.attach(trainer, keep_fraction=0.4, method="el2n-free")
    trainer.train()
    assert pruner.history.value("el2n").tolist() == [last[i] for i in range(toy.N)]
    assert len(set(pruner.history.visits.tolist())) > 1


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_learning_rate_ends_at_zero(make, kind):
    trainer = make(num_train_epochs=4, lr_scheduler_type=kind, warmup_steps=2, gradient_accumulation_steps=2)
    fastprune.attach(trainer, method="el2n", keep_fraction=0.3)
    trainer.train()
    assert trainer.lr_scheduler.get_last_lr()[0] == pytest.approx(0.0, abs=1e-12)
    assert trainer.state.global_step == trainer.state.max_steps


@pytest.mark.parametrize("accumulation", [2, 3])
def test_gradient_accumulation_uses_every_example(make, accumulation):
    settings = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": accumulation}
    trainer = make(num_train_epochs=4, **settings)
    pruner = fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")
    trainer.train()
    pieces = chunk_pieces(pruner.driver.phases(4), 2 * accumulation)
    v = len(pieces[0])
    assert len(trainer.trained_on) == len(pieces) * v
    assert trainer.state.global_step == len(pieces) * math.ceil(math.ceil(v / 2) / accumulation)
    assert (pruner.history.visits > 0).all()


def test_persistent_workers_see_the_new_subset(make):
    settings = {"num_train_epochs": 3, "per_device_train_batch_size": 5}
    workers = make(**settings, dataloader_num_workers=2, dataloader_persistent_workers=True)
    alone = make(**settings)
    for trainer in (workers, alone):
        fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")
        trainer.train()
    # Worker start-up draws from the global generator, so weights (dropout) differ: only the plan is compared.
    assert [len(b) for b in workers.batches] == [len(b) for b in alone.batches]
    assert sorted(workers.trained_on[: toy.N]) == list(range(toy.N))
    assert len(set(workers.trained_on[toy.N :])) < toy.N


def test_trainer_is_freed_without_the_garbage_collector(make):
    """Collected in a cycle, persistent workers would take five seconds each to stop."""
    gc.disable()
    try:
        trainer = make(num_train_epochs=2)
        pruner = fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")
        trainer.train()
        alive = weakref.ref(trainer)
        del trainer
        assert alive() is None
        assert len(pruner.kept_indices) == 25
    finally:
        gc.enable()


def test_max_steps_wins(make):
    trainer = make(max_steps=17, num_train_epochs=1, per_device_train_batch_size=5)
    pruner = fastprune.attach(trainer, method="el2n", keep_fraction=0.5)
    trainer.train()
    assert trainer.state.global_step == 17 == trainer.state.max_steps
    assert trainer.lr_scheduler.get_last_lr()[0] == 0.0
    assert len(pruner.kept_indices) == 25
    assert sorted(trainer.trained_on[: toy.N]) == list(range(toy.N))
    assert 2 < trainer.state.epoch < 4


class OutOfMemory(toy.Recorder):
    """Runs out of memory in its third step with batches of more than four."""

    def training_step(self, model, inputs, *args, **kwargs):
        if self.state.global_step == 2 and len(inputs["labels"]) > 4:
            self.batches = []
            raise RuntimeError("CUDA out of memory.")
        return super().training_step(model, inputs, *args, **kwargs)


def test_a_smaller_batch_size_after_running_out_of_memory_starts_afresh(make):
    trainer = make(OutOfMemory, auto_find_batch_size=True)
    pruner = fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")
    trainer.train()
    assert max(len(batch) for batch in trainer.batches) <= 4
    assert sorted(trainer.trained_on[: toy.N]) == list(range(toy.N))
    assert len(trainer.trained_on) == sum(map(len, pruner.sampler.pieces)) == pruner.history.visits.sum()


def test_training_twice_starts_afresh(make):
    trainer = make(num_train_epochs=3, per_device_train_batch_size=5)
    pruner = fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")
    trainer.train()
    first, visits = trainer.batches, pruner.history.visits.clone()
    trainer.batches = []
    trainer.train()
    assert [len(b) for b in trainer.batches] == [len(b) for b in first]
    assert sorted(trainer.trained_on[: toy.N]) == list(range(toy.N))
    assert pruner.history.visits.sum() == visits.sum()
    assert trainer.args.num_train_epochs == 3


def test_arguments_and_sampler_are_the_users_outside_training(make):
    trainer = make(num_train_epochs=3, max_grad_norm=0.0)
    fastprune.attach(trainer, method="el2n", keep_fraction=0.5)
    assert len(trainer.get_train_dataloader()) == 7

    class Seen(TrainerCallback):
        epochs: list = []

        def on_step_end(self, args, state, control, **kwargs):
            self.epochs.append((args.num_train_epochs, state.num_train_epochs))
            if state.global_step == 5:
                raise KeyboardInterrupt

    trainer.add_callback(Seen())
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert set(Seen.epochs) == {(3, 3)}
    assert trainer.args.num_train_epochs == 3
    assert len(trainer.get_train_dataloader()) == 7


# --- other models, other losses --------------------------------------------------------------------


class Weighted(toy.Recorder):
    """The Trainer subclass of the forums: its own loss, labels taken out of the batch."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = torch.nn.functional.cross_entropy(outputs.logits, labels, weight=torch.tensor([1.0, 2.0, 3.0]))
        return (loss, outputs) if return_outputs else loss


@pytest.mark.parametrize("method", METHODS)
def test_subclass_with_its_own_loss(make, method):
    plain, pruned = make(Weighted), make(Weighted)
    fastprune.attach(pruned, keep_fraction=1.0, method=method)
    random_states = [toy.train(plain), toy.train(pruned)]
    toy.assert_same_weights(pruned, plain)
    assert torch.equal(*random_states)
    trainer = make(Weighted)
    pruner = fastprune.attach(trainer, keep_fraction=0.5, method=method)
    trainer.train()
    assert len(pruner.kept_indices) == 25


def token_rows(short: bool = False) -> dict[str, list]:
    table = toy.rows()
    lengths = [2 + i % 5 if short else 6 for i in range(toy.N)]
    tokens = [row[:n] for row, n in zip(table["input_ids"], lengths, strict=True)]
    return {
        "input_ids": tokens,
        "attention_mask": [[1] * n for n in lengths],
        "labels": [[-100, *(t % 3 for t in row[1:])] for row in tokens],
    }


def pad(samples):
    width = max(len(s["input_ids"]) for s in samples)
    fill = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    return {
        key: torch.tensor([list(s[key]) + [value] * (width - len(s[key])) for s in samples])
        for key, value in fill.items()
    }


@pytest.mark.parametrize("method", METHODS)
def test_token_classification_of_unequal_lengths(make, method):
    import datasets

    data = datasets.Dataset.from_dict(token_rows(short=True))
    trainer = make(net=toy.token_model(), data=data, data_collator=pad, num_train_epochs=2)
    trainer.eval_dataset = None
    pruner = fastprune.attach(trainer, keep_fraction=0.4, method=method)
    trainer.train()
    scores = pruner.history.value("el2n")
    assert torch.equal(pruner.kept_indices, fastprune.select_topk(scores, 20)) or method == "el2n-free"
    # Joined by their norm, longer examples score higher: sqrt(tokens) times about 0.8.
    lengths = torch.tensor([1 + i % 5 for i in range(toy.N)])
    assert torch.corrcoef(torch.stack([scores, lengths.sqrt()]))[0, 1] > 0.95


def test_score_fn_replaces_the_default(make):
    def by_token(outputs, inputs):
        assert outputs["logits"].shape == (len(inputs["input_ids"]), 3)
        return inputs["input_ids"][:, 0].float()

    for method in METHODS:
        trainer = make(num_train_epochs=2)
        pruner = fastprune.attach(trainer, keep_fraction=0.2, method=method, score_fn=by_token)
        trainer.train()
        assert pruner.kept_indices.tolist() == list(range(40, 50))


def test_a_static_method_scores_once(make):
    trainer = make(num_train_epochs=4, per_device_train_batch_size=5)
    pruner = fastprune.attach(trainer, keep_fraction=0.5, method="el2n-static")
    trainer.train()
    assert set(pruner.history.visits.tolist()) == {1}
    assert [e["prune/churn"] for e in toy.logged(trainer, "prune/churn")][1:] == [0.0, 0.0]


@pytest.mark.parametrize("method", ["random", "full", "loss"])
def test_other_methods_run(make, method):
    trainer = make(num_train_epochs=3, per_device_train_batch_size=5)
    pruner = fastprune.attach(trainer, keep_fraction=0.5, method=method)
    trainer.train()
    assert len(pruner.kept_indices) == (toy.N if method == "full" else 25)
    for entry in toy.logged(trainer, "prune/churn"):
        assert all(value == value for value in entry.values())


def test_no_warmup_starts_from_a_random_subset(make):
    trainer = make(num_train_epochs=2, per_device_train_batch_size=5)
    pruner = fastprune.attach(trainer, method="el2n", keep_fraction=0.5, warmup_epochs=0)
    trainer.train()
    assert len(set(trainer.trained_on[:25])) == 25
    assert len(trainer.trained_on) == 50
    assert len(pruner.kept_indices) == 25


def test_who_asks_for_a_train_loader_meanwhile_does_not_begin_the_run_again(make):
    class Counting(TrainerCallback):
        lengths: ClassVar[list[int]] = []

        def on_epoch_end(self, args, state, control, **kwargs):
            self.lengths.append(len(trainer.get_train_dataloader()))

    runs = []
    for callbacks in ([], [Counting()]):
        trainer = make(num_train_epochs=4, callbacks=callbacks)
        pruner = fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")
        toy.train(trainer)
        cycles = len(toy.logged(trainer, "prune/churn"))
        runs.append((trainer.batches, trainer.state.epoch, pruner.kept_indices.tolist(), cycles))
    assert runs[0] == runs[1] and runs[0][3] == 3
    assert Counting.lengths == [-(-toy.N // 8)] * 4


def test_a_loss_that_divides_by_the_number_of_items_goes_through_the_scoring_pass(make):
    def summed(outputs, labels, num_items_in_batch=None):
        return torch.nn.functional.cross_entropy(outputs["logits"], labels, reduction="sum") / num_items_in_batch

    trainer = make(compute_loss_func=summed)
    pruner = fastprune.attach(trainer, method="el2n", keep_fraction=0.5)
    trainer.train()
    assert len(pruner.kept_indices) == toy.N // 2


@pytest.mark.parametrize(
    "column", [["short", "long"] * (toy.N // 2), [None] * toy.N, list(range(toy.N))], ids=["text", "none", "numbers"]
)
def test_a_column_called_length_of_any_kind_is_no_obstacle(make, column):
    data = toy.hub_dataset().add_column("length", column)
    data.set_transform(lambda batch: {k: v for k, v in batch.items() if k != "length"})
    trainer = make(data=data, remove_unused_columns=False)
    pruner = fastprune.attach(trainer, method="el2n", keep_fraction=0.5)
    trainer.train()
    assert len(pruner.kept_indices) == toy.N // 2
