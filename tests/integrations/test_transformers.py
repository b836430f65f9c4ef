"""`fastprune.attach`: nothing changes at keep_fraction 1, and what the plan says happens below it."""

from __future__ import annotations

import gc
import logging
import math
import weakref

import pytest
import torch
from tiny_trainer import (
    N,
    PlainDataset,
    Recorder,
    assert_same_weights,
    hub_dataset,
    model,
    rows,
    token_model,
    weights,
)
from transformers import Trainer, TrainerCallback

import fastprune
from fastprune.pruning.schedule import chunk_pieces

METHODS = ["el2n", "el2n-free"]


def train(trainer, **settings):
    """Train, and return the state of the global random generator behind it."""
    torch.manual_seed(trainer.args.seed)
    trainer.train(**settings)
    return torch.get_rng_state()


def logged(trainer, key):
    return [entry for entry in trainer.state.log_history if key in entry]


class Events(TrainerCallback):
    """Writes down where epochs begin and end, what is evaluated and saved."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, float | None]] = []

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.seen.append(("begin", state.global_step, state.epoch))

    def on_epoch_end(self, args, state, control, **kwargs):
        self.seen.append(("end", state.global_step, state.epoch))

    def on_evaluate(self, args, state, control, **kwargs):
        self.seen.append(("evaluate", state.global_step, state.epoch))

    def on_save(self, args, state, control, **kwargs):
        self.seen.append(("save", state.global_step, state.epoch))

    def of(self, kind: str) -> list[tuple[int, float | None]]:
        return [(step, epoch) for event, step, epoch in self.seen if event == kind]


def cross_entropy_of(outputs, labels, num_items_in_batch=None):
    return torch.nn.functional.cross_entropy(outputs["logits"], labels)


# --- keep_fraction = 1 changes nothing -------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("data", [hub_dataset, PlainDataset])
@pytest.mark.parametrize("settings", [{}, {"gradient_accumulation_steps": 3}], ids=["plain", "accumulation"])
def test_keeping_everything_changes_nothing(make, method, data, settings):
    plain, pruned = make(data=data(), **settings), make(data=data(), **settings)
    fastprune.attach(pruned, keep_fraction=1.0, method=method)
    random_states = [train(plain), train(pruned)]
    assert pruned.batches == plain.batches
    assert_same_weights(weights(pruned), weights(plain))
    assert torch.equal(*random_states)
    assert pruned.state.global_step == plain.state.global_step
    assert pruned.state.epoch == plain.state.epoch


@pytest.mark.parametrize(
    "settings",
    [
        {"data_seed": 5},
        {"max_steps": 10},
        {"dataloader_drop_last": True},
        {"label_smoothing_factor": 0.1},
        {"eval_strategy": "epoch", "logging_strategy": "steps", "logging_steps": 3},
        {"compute_loss_func": cross_entropy_of},
        {"model_init": lambda: model()},
    ],
    ids=["data_seed", "max_steps", "drop_last", "smoothing", "evaluation", "loss_func", "model_init"],
)
def test_keeping_everything_changes_nothing_in_other_setups(make, settings):
    plain, pruned = make(**settings), make(**settings)
    fastprune.attach(pruned, keep_fraction=1.0, method="el2n-free")
    random_states = [train(plain), train(pruned)]
    assert pruned.batches == plain.batches
    assert_same_weights(weights(pruned), weights(plain))
    assert torch.equal(*random_states)
    timing = ("runtime", "per_second")
    keys = [k for entry in plain.state.log_history for k in entry if not any(t in k for t in timing)]
    for key in set(keys):
        others = [e for e in logged(pruned, key) if "prune/churn" not in e]
        assert [e[key] for e in others] == [e[key] for e in logged(plain, key)]


def test_order_is_that_of_the_random_state_at_training_like_accelerates(make):
    """Scripts that seed after building the Trainer get another order from accelerate, and so from us."""
    plain, pruned = make(num_train_epochs=1), make(num_train_epochs=1)
    fastprune.attach(pruned, keep_fraction=1.0)
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

    pieces = chunk_pieces(pruner.phases(4), 4)
    v, k = len(pieces[0]), round(keep * N)
    assert {len(piece) for piece in pieces} == {v}
    steps = len(pieces) * -(-v // 4)
    assert trainer.state.global_step == trainer.state.max_steps == steps == len(trainer.batches)
    seen = trainer.trained_on
    assert len(seen) == len(pieces) * v

    warmup = sum(len(piece) for piece in pieces if piece.phase.index == 0)
    for start in (0, N):
        assert sorted(seen[start : start + N]) == list(range(N))
    assert len(kept) == 2 and all(len(s) == k for s in kept)
    cycle = (len(seen) - warmup) // 2
    for number, chosen in enumerate(kept):
        stretch = seen[warmup + number * cycle : warmup + (number + 1) * cycle]
        assert set(stretch[:k]) == chosen
        assert set(stretch) == chosen


@pytest.mark.parametrize("data", [hub_dataset, PlainDataset])
def test_keeps_the_highest_scores_of_the_model_at_that_moment(make, data):
    """The pass agrees with scores computed by hand, in eval mode, at the end of the warm-up."""
    trainer = make(data=data(), num_train_epochs=2)
    pruner = fastprune.attach(trainer, keep_fraction=0.4)
    expected = []

    class ByHand(TrainerCallback):
        def on_epoch_end(self, args, state, control, model=None, **kwargs):
            if state.epoch == 1.0:
                batch = {name: torch.tensor(column) for name, column in rows().items()}
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
    assert pruner.history.value("el2n").tolist() == [last[i] for i in range(N)]
    assert len(set(pruner.history.visits.tolist())) > 1


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_learning_rate_ends_at_zero(make, kind):
    trainer = make(num_train_epochs=4, lr_scheduler_type=kind, warmup_steps=2, gradient_accumulation_steps=2)
    fastprune.attach(trainer, keep_fraction=0.3)
    trainer.train()
    assert trainer.lr_scheduler.get_last_lr()[0] == pytest.approx(0.0, abs=1e-12)
    assert trainer.state.global_step == trainer.state.max_steps


@pytest.mark.parametrize("accumulation", [2, 3])
def test_gradient_accumulation_uses_every_example(make, accumulation):
    settings = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": accumulation}
    trainer = make(num_train_epochs=4, **settings)
    pruner = fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")
    trainer.train()
    pieces = chunk_pieces(pruner.phases(4), 2 * accumulation)
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
    assert sorted(workers.trained_on[:N]) == list(range(N))
    assert len(set(workers.trained_on[N:])) < N


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
    pruner = fastprune.attach(trainer, keep_fraction=0.5)
    trainer.train()
    assert trainer.state.global_step == 17 == trainer.state.max_steps
    assert trainer.lr_scheduler.get_last_lr()[0] == 0.0
    assert len(pruner.kept_indices) == 25
    assert sorted(trainer.trained_on[:N]) == list(range(N))
    assert 2 < trainer.state.epoch < 4


class OutOfMemory(Recorder):
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
    assert sorted(trainer.trained_on[:N]) == list(range(N))
    assert len(trainer.trained_on) == 100 == pruner.history.visits.sum()


def test_batches_dropped_at_the_end_of_a_chunk_do_not_move_the_epochs(make):
    events = Events()
    settings = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "dataloader_drop_last": True}
    trainer = make(callbacks=[events], eval_strategy="epoch", **settings)
    fastprune.attach(trainer, keep_fraction=0.5)
    trainer.train()
    # Chunks of 25: six batches of four, three steps.
    assert events.of("evaluate") == events.of("end") == [(6, 1.0), (9, 2.0), (12, 3.0)]
    assert trainer.lr_scheduler.get_last_lr()[0] == 0.0


def test_stopping_an_epoch_early_goes_on_with_the_next_chunk(make):
    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_epoch_stop = state.global_step in (3, 12)

    events = Events()
    trainer = make(callbacks=[Stop(), events], num_train_epochs=4, per_device_train_batch_size=5)
    fastprune.attach(trainer, keep_fraction=0.5)
    trainer.train()
    assert [step for step, _ in events.of("end")] == [8, 12, 17, 22]


def test_training_twice_starts_afresh(make):
    trainer = make(num_train_epochs=3, per_device_train_batch_size=5)
    pruner = fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")
    trainer.train()
    first, visits = trainer.batches, pruner.history.visits.clone()
    trainer.batches = []
    trainer.train()
    assert [len(b) for b in trainer.batches] == [len(b) for b in first]
    assert sorted(trainer.trained_on[:N]) == list(range(N))
    assert pruner.history.visits.sum() == visits.sum()
    assert trainer.args.num_train_epochs == 3


def test_arguments_and_sampler_are_the_users_outside_training(make):
    trainer = make(num_train_epochs=3, max_grad_norm=0.0)
    fastprune.attach(trainer, keep_fraction=0.5)
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


# --- the user's epochs -----------------------------------------------------------------------------


def test_epoch_strategies_and_callbacks_follow_the_users_epochs(make):
    """With two epochs a cycle, the first ends within a chunk; positions are those of the plan."""
    events = Events()
    trainer = make(
        callbacks=[events],
        num_train_epochs=5,
        per_device_train_batch_size=4,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
    )
    pruner = fastprune.attach(trainer, keep_fraction=0.3, cycle_epochs=2)
    trainer.train()

    pieces = chunk_pieces(pruner.phases(5), 4)
    v, per_chunk = len(pieces[0]), -(-len(pieces[0]) // 4)
    assert any(end % v for end in (N, N + 15))  # otherwise this test shows nothing

    def reached(position: int) -> int:
        """The first step after which ``position`` examples have been read."""
        chunk, rest = divmod(position, v)
        return chunk * per_chunk + -(-rest // 4)

    cycle = sum(len(p) for p in pieces if p.phase.index == 1)
    warmup = sum(len(p) for p in pieces if p.phase.index == 0)
    ends = [warmup, warmup + 15, warmup + cycle, warmup + cycle + 15, warmup + 2 * cycle]
    expected = [(reached(position), float(epoch)) for epoch, position in enumerate(ends, start=1)]
    assert events.of("end") == events.of("evaluate") == events.of("save") == expected
    assert [step for step, _ in events.of("begin")] == [0] + [step for step, _ in expected[:-1]]
    assert [e["epoch"] for e in logged(trainer, "loss")] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert trainer.state.epoch == 5.0


def test_state_epoch_grows_in_the_users_units(make):
    logging_ = {"logging_strategy": "steps", "logging_steps": 1}
    trainer = make(num_train_epochs=4, per_device_train_batch_size=4, **logging_)
    pruner = fastprune.attach(trainer, keep_fraction=0.3)
    trainer.train()
    epochs = [e["epoch"] for e in logged(trainer, "loss")]
    assert epochs == sorted(epochs) and epochs[-1] == 4.0
    steps_in_warmup = sum(epoch <= 1.0 for epoch in epochs)
    v = len(chunk_pieces(pruner.phases(4), 4)[0])
    assert steps_in_warmup == -(-N // v) * -(-v // 4)
    assert {1.0, 2.0, 3.0} <= set(epochs)


def test_step_strategies_are_untouched(make):
    settings = {"eval_strategy": "steps", "eval_steps": 4, "save_strategy": "steps", "save_steps": 6}
    events, plain_events = Events(), Events()
    trainer = make(callbacks=[events], num_train_epochs=4, **settings)
    fastprune.attach(trainer, keep_fraction=0.3)
    trainer.train()
    plain = make(callbacks=[plain_events], max_steps=trainer.state.max_steps, folder="plain", **settings)
    plain.train()
    for kind in ("evaluate", "save"):
        assert [step for step, _ in events.of(kind)] == [step for step, _ in plain_events.of(kind)]


def test_best_model_and_early_stopping(make):
    from transformers import EarlyStoppingCallback

    events = Events()
    trainer = make(
        callbacks=[EarlyStoppingCallback(early_stopping_patience=1), events],
        num_train_epochs=9,
        per_device_train_batch_size=4,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="worse",
        greater_is_better=False,
        compute_metrics=lambda _: {"worse": len(events.of("evaluate"))},
    )
    fastprune.attach(trainer, keep_fraction=0.3, cycle_epochs=3)
    trainer.train()
    evaluated = events.of("evaluate")
    assert [epoch for _, epoch in evaluated] == [1.0, 2.0]
    assert events.of("end") == evaluated
    assert trainer.state.global_step == evaluated[-1][0] < trainer.state.max_steps
    assert trainer.state.best_model_checkpoint.endswith(f"checkpoint-{evaluated[0][0]}")


def test_logs_each_cycle(make):
    trainer = make(num_train_epochs=5, per_device_train_batch_size=5)
    fastprune.attach(trainer, keep_fraction=0.5, cycle_epochs=2)
    trainer.train()
    entries = logged(trainer, "prune/keep_fraction")
    assert [e["epoch"] for e in entries] == [1.0, 3.0]
    for entry in entries:
        assert entry["prune/keep_fraction"] == 0.5
        assert 0 < entry["prune/threshold"] < 2**0.5
        assert entry["prune/score_seconds"] > 0
    assert [e["prune/examples_seen"] for e in entries] == [50, 100]


# --- other models, other losses --------------------------------------------------------------------


class Weighted(Recorder):
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
    random_states = [train(plain), train(pruned)]
    assert_same_weights(weights(pruned), weights(plain))
    assert torch.equal(*random_states)
    trainer = make(Weighted)
    pruner = fastprune.attach(trainer, keep_fraction=0.5, method=method)
    trainer.train()
    assert len(pruner.kept_indices) == 25


def token_rows(short: bool = False) -> dict[str, list]:
    table = rows()
    lengths = [2 + i % 5 if short else 6 for i in range(N)]
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
    trainer = make(net=token_model(), data=data, data_collator=pad, num_train_epochs=2)
    trainer.eval_dataset = None
    pruner = fastprune.attach(trainer, keep_fraction=0.4, method=method)
    trainer.train()
    scores = pruner.history.value("el2n")
    assert torch.equal(pruner.kept_indices, fastprune.select_topk(scores, 20)) or method == "el2n-free"
    # Joined by their norm, longer examples score higher: sqrt(tokens) times about 0.8.
    lengths = torch.tensor([1 + i % 5 for i in range(N)])
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
    assert [e["prune/churn"] for e in logged(trainer, "prune/churn")][1:] == [0.0, 0.0]


@pytest.mark.parametrize("method", ["random", "full", "loss"])
def test_other_methods_run(make, method):
    trainer = make(num_train_epochs=3, per_device_train_batch_size=5)
    pruner = fastprune.attach(trainer, keep_fraction=0.5, method=method)
    trainer.train()
    assert len(pruner.kept_indices) == (N if method == "full" else 25)
    for entry in logged(trainer, "prune/churn"):
        assert all(value == value for value in entry.values())


def test_no_warmup_starts_from_a_random_subset(make):
    trainer = make(num_train_epochs=2, per_device_train_batch_size=5)
    pruner = fastprune.attach(trainer, keep_fraction=0.5, warmup_epochs=0)
    trainer.train()
    assert len(set(trainer.trained_on[:25])) == 25
    assert len(trainer.trained_on) == 50
    assert len(pruner.kept_indices) == 25


# --- refusals --------------------------------------------------------------------------------------


class OwnSampler(Recorder):
    def _get_train_sampler(self, *args):
        return torch.utils.data.SequentialSampler(self.train_dataset)


class OwnLoader(Recorder):
    def get_train_dataloader(self):
        return torch.utils.data.DataLoader(self.train_dataset, batch_size=4, collate_fn=self.data_collator)


class NoOutputs(Recorder):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return model(**inputs).loss


def test_refuses_what_it_cannot_do(make):
    with pytest.raises(TypeError, match="transformers.Trainer"):
        fastprune.attach(model(), keep_fraction=0.5)
    trainer = make()
    fastprune.attach(trainer, keep_fraction=0.5)
    with pytest.raises(ValueError, match="already"):
        fastprune.attach(trainer, keep_fraction=0.5)
    with pytest.raises(ValueError, match="keep_fraction"):
        fastprune.attach(make(), keep_fraction=0.0)
    stream = hub_dataset().to_iterable_dataset()
    with pytest.raises(ValueError, match="train_dataset is a stream"):
        fastprune.attach(make(data=stream, max_steps=3), keep_fraction=0.5)
    with pytest.raises(ValueError, match="_get_train_sampler"):
        fastprune.attach(make(OwnSampler), keep_fraction=0.5)
    trainer = make()
    trainer.train_dataset = None
    with pytest.raises(ValueError, match="no train_dataset"):
        fastprune.attach(trainer, keep_fraction=0.5)


@pytest.mark.parametrize("epochs", [2.5, 0.5])
def test_refuses_part_epochs(make, epochs):
    trainer = make(num_train_epochs=epochs)
    fastprune.attach(trainer, keep_fraction=0.5)
    with pytest.raises(ValueError, match="num_train_epochs must be a whole number"):
        trainer.train()


def test_refuses_at_training_what_shows_only_there(make):
    trainer = make(OwnLoader)
    fastprune.attach(trainer, keep_fraction=0.5)
    with pytest.raises(ValueError, match="get_train_dataloader"):
        trainer.train()
    trainer = make(NoOutputs)
    fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")
    with pytest.raises(ValueError, match="return_outputs"):
        trainer.train()
    trainer = make()
    fastprune.attach(trainer, keep_fraction=0.5)
    trainer.train_dataset = hub_dataset(30)
    with pytest.raises(ValueError, match="30 examples, it had 50"):
        trainer.train()


def test_refuses_batches_that_are_not_the_samplers(make):
    """A collator that drops examples: positions would no longer say which example is which."""
    trainer = make(data_collator=lambda samples: pad_first(samples[:-1]))
    fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")
    with pytest.raises(RuntimeError, match="batches are not those of the sampler"):
        trainer.train()


def pad_first(samples):
    return {key: torch.tensor([s[key] for s in samples]) for key in samples[0]}


def test_warns_of_an_order_it_cannot_match(make, caplog):
    with caplog.at_level(logging.WARNING, logger="fastprune"):
        fastprune.attach(make(accelerator_config={"use_seedable_sampler": False}), keep_fraction=0.5)
    assert "use_seedable_sampler" in caplog.text


def test_nothing_global_is_patched(make):
    before = dict(vars(Trainer))
    trainer = make()
    fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")
    trainer.train()
    assert dict(vars(Trainer)) == before
    other = make()
    other.train()
    assert sorted(other.trained_on[:N]) == list(range(N)) and len(other.batches) == 21
