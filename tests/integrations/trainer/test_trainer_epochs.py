"""`fastprune.attach`: evaluation, saving, logging and callbacks follow the user's epochs."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from helpers import toy_trainer as toy
from transformers import TrainerCallback

import fastprune
from fastprune.pruning.chunks import chunk_pieces


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
    pruner = fastprune.attach(trainer, method="el2n", keep_fraction=0.3, cycle_epochs=2)
    trainer.train()

    pieces = chunk_pieces(pruner.driver.phases(5), 4)
    v, per_chunk = len(pieces[0]), -(-len(pieces[0]) // 4)
    assert any(end % v for end in (toy.N, toy.N + 15))  # otherwise this test shows nothing

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
    assert [e["epoch"] for e in toy.logged(trainer, "loss")] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert trainer.state.epoch == 5.0


def test_state_epoch_grows_in_the_users_units(make):
    logging_ = {"logging_strategy": "steps", "logging_steps": 1}
    trainer = make(num_train_epochs=4, per_device_train_batch_size=4, **logging_)
    pruner = fastprune.attach(trainer, method="el2n", keep_fraction=0.3)
    trainer.train()
    epochs = [e["epoch"] for e in toy.logged(trainer, "loss")]
    assert epochs == sorted(epochs) and epochs[-1] == 4.0
    steps_in_warmup = sum(epoch <= 1.0 for epoch in epochs)
    v = len(chunk_pieces(pruner.driver.phases(4), 4)[0])
    assert steps_in_warmup == -(-toy.N // v) * -(-v // 4)
    assert {1.0, 2.0, 3.0} <= set(epochs)


def test_step_strategies_are_untouched(make):
    settings = {"eval_strategy": "steps", "eval_steps": 4, "save_strategy": "steps", "save_steps": 6}
    events, plain_events = Events(), Events()
    trainer = make(callbacks=[events], num_train_epochs=4, **settings)
    fastprune.attach(trainer, method="el2n", keep_fraction=0.3)
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
    fastprune.attach(trainer, method="el2n", keep_fraction=0.3, cycle_epochs=3)
    trainer.train()
    evaluated = events.of("evaluate")
    assert [epoch for _, epoch in evaluated] == [1.0, 2.0]
    assert events.of("end") == evaluated
    assert trainer.state.global_step == evaluated[-1][0] < trainer.state.max_steps
    assert trainer.state.best_model_checkpoint.endswith(f"checkpoint-{evaluated[0][0]}")


def test_logs_each_cycle(make):
    trainer = make(num_train_epochs=5, per_device_train_batch_size=5)
    fastprune.attach(trainer, method="el2n", keep_fraction=0.5, cycle_epochs=2)
    trainer.train()
    entries = toy.logged(trainer, "prune/keep_fraction")
    assert [e["epoch"] for e in entries] == [1.0, 3.0]
    for entry in entries:
        assert entry["prune/keep_fraction"] == 0.5
        assert 0 < entry["prune/threshold"] < 2**0.5
        assert entry["prune/score_seconds"] > 0
    assert [e["prune/examples_seen"] for e in entries] == [50, 100]


def test_nothing_is_dropped_where_chunks_are_whole_steps(make):
    events = Events()
    settings = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "dataloader_drop_last": True}
    trainer = make(callbacks=[events], eval_strategy="epoch", **settings)
    fastprune.attach(trainer, method="el2n", keep_fraction=0.5)
    trainer.train()
    # 50 examples are seven steps of eight, 25 are four.
    assert events.of("evaluate") == events.of("end") == [(7, 1.0), (11, 2.0), (15, 3.0)]
    assert sorted(trainer.trained_on[: toy.N]) == list(range(toy.N))
    assert trainer.lr_scheduler.get_last_lr()[0] == 0.0


@pytest.mark.parametrize(
    "epochs, keep, steps",
    [(2.5, 0.5, 10 + 5 + 3), (1.5, 0.5, 10 + 3), (0.5, 0.5, 5), (2.5, 1.0, 25)],
    ids=["in a cycle", "in the first cycle", "in the warm-up", "everything"],
)
def test_a_part_of_an_epoch_is_the_whole_one_cut(make, epochs, keep, steps):
    """Epochs of 10, 5 and 5 steps; the last is read in the same order as far as it goes."""
    settings = {"per_device_train_batch_size": 5, "lr_scheduler_type": "constant"}
    whole, cut = (make(num_train_epochs=e, **settings) for e in (math.ceil(epochs), epochs))
    for trainer in (whole, cut):
        fastprune.attach(trainer, method="el2n", keep_fraction=keep)
        toy.train(trainer)
    assert cut.state.global_step == cut.state.max_steps == steps
    assert cut.batches == whole.batches[:steps] and len(whole.batches) > steps
    assert cut.state.num_train_epochs == math.ceil(epochs) and cut.args.num_train_epochs == epochs
    assert epochs <= cut.state.epoch <= epochs + 0.1


def test_a_part_of_an_epoch_ends_the_schedule_and_resumes(make):
    events = Events()
    settings = {"per_device_train_batch_size": 4, "num_train_epochs": 3.5, "eval_strategy": "epoch"}
    trainers = []
    for folder in ("whole", "again"):
        trainer = make(folder=folder, callbacks=[events], save_strategy="steps", save_steps=3, **settings)
        fastprune.attach(trainer, method="el2n", keep_fraction=0.3, cycle_epochs=2)
        trainers.append(trainer)
    whole, again = trainers
    whole.train()
    assert [round(epoch, 3) for _, epoch in events.of("end")][:3] == [1.0, 2.0, 3.0] and len(events.of("end")) == 4
    assert whole.lr_scheduler.get_last_lr()[0] == 0.0
    again.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-18")
    assert again.batches == whole.batches[18:] and again.state.epoch == whole.state.epoch
    toy.assert_same_weights(again, whole)


def test_stopping_an_epoch_early_goes_on_with_the_next_chunk(make):
    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_epoch_stop = state.global_step in (3, 12)

    events = Events()
    trainer = make(callbacks=[Stop(), events], num_train_epochs=4, per_device_train_batch_size=5)
    fastprune.attach(trainer, method="el2n", keep_fraction=0.5)
    trainer.train()
    assert [step for step, _ in events.of("end")] == [8, 12, 17, 22]


@pytest.mark.parametrize("epochs, keep, own", [(3, 0.5, True), (2.5, 0.5, True), (3, 0.5, False), (3, 1.0, True)])
def test_the_number_of_steps_is_logged_where_the_scheduler_is_the_users(make, caplog, epochs, keep, own):
    net = toy.model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0) if own else None
    settings = {"net": net, "num_train_epochs": epochs, "per_device_train_batch_size": 5}
    trainer = make(**settings, optimizers=(optimizer, schedule))
    fastprune.attach(trainer, keep_fraction=keep, method="random")
    with caplog.at_level(logging.WARNING, logger="fastprune"):
        trainer.train()
    said = f"this pruned run takes {trainer.state.global_step} optimizer steps"
    assert trainer.state.global_step == {(3, 0.5): 20, (2.5, 0.5): 18, (3, 1.0): 30}[epochs, keep]
    assert caplog.text.count(said) == (own and keep < 1.0)
