"""Checkpoints of a pruned run: resuming goes on exactly, and refuses what does not belong together."""

from __future__ import annotations

import os

import pytest
import torch
from helpers import older_trainers
from helpers import toy_trainer as toy
from transformers import TrainerCallback

import fastprune
from fastprune.errors import UsageError

METHODS = ["el2n", "el2n-free"]


class Kept(TrainerCallback):
    """The kept set after each selection, by global step."""

    def __init__(self) -> None:
        self.sets: dict[int, list[int]] = {}
        self.pruner = None

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "prune/churn" in logs:
            self.sets[state.global_step] = self.pruner.kept_indices.tolist()


def attached(make, folder, method, data=None, saves=None, **settings):
    """Chunks of 5 steps of 5 examples: warm-up to step 10, cycles from 10, 15, 20.  Saves after these steps, or all."""
    defaults = {
        "num_train_epochs": 5,
        "per_device_train_batch_size": 5,
        "save_strategy": "steps",
        "save_steps": 1,
        "save_total_limit": None,
    }
    kept = Kept()
    callbacks = [kept] if saves is None else [kept, toy.SaveThere(*saves)]
    trainer = make(folder=folder, data=data, callbacks=callbacks, **{**defaults, **settings})
    kept.pruner = fastprune.attach(trainer, keep_fraction=0.5, method=method)
    return trainer, kept


def assert_resumes_everywhere(make, method, steps, **settings):
    whole, kept = attached(make, "whole", method, saves=steps, **settings)
    whole.train()
    accumulation = settings.get("gradient_accumulation_steps", 1)
    for step in steps:
        trainer, found = attached(make, f"again{step}", method, saves=[], **settings)
        torch.manual_seed(99)  # as a new process would have it
        trainer.train(resume_from_checkpoint=os.path.join(whole.args.output_dir, f"checkpoint-{step}"))
        assert trainer.batches == whole.batches[-len(trainer.batches) :]
        assert len(trainer.batches) == len(whole.batches) - step * accumulation
        toy.assert_same_weights(trainer, whole)
        assert found.sets == {s: indices for s, indices in kept.sets.items() if s >= step}
        assert found.sets and torch.equal(found.pruner.kept_indices, kept.pruner.kept_indices)
        for metric in kept.pruner.history.reads:
            assert torch.equal(found.pruner.history.value(metric), kept.pruner.history.value(metric))
        assert trainer.state.epoch == whole.state.epoch == settings.get("num_train_epochs", 5)


@pytest.mark.parametrize("method", METHODS)
def test_resume_is_exact(make, method):
    """In the warm-up, in the middle of a pruned chunk, and at the end of an epoch, before a selection."""
    assert_resumes_everywhere(make, method, [3, 17, 20])


@pytest.mark.parametrize("method", METHODS)
def test_resume_is_exact_with_a_plain_dataset_and_accumulation(make, method):
    settings = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 5, "num_train_epochs": 3}
    assert_resumes_everywhere(make, method, [12, 15], data=toy.PlainDataset(), **settings)


def test_resume_where_accumulation_does_not_divide_an_epoch(make):
    """Epochs of 25 are 13 batches of two; chunks are steps of three batches."""
    settings = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3, "num_train_epochs": 3}
    whole, _ = attached(make, "whole", "el2n-free", saves=[12], **settings)
    whole.train()
    assert len(whole.trained_on) == 54 + 30 + 30 and whole.state.global_step == 9 + 5 + 5
    again, _ = attached(make, "again", "el2n-free", saves=[], **settings)
    again.train(resume_from_checkpoint=os.path.join(whole.args.output_dir, "checkpoint-12"))
    assert again.batches == whole.batches[-len(again.batches) :]
    assert len(again.trained_on) == 6 * 7
    toy.assert_same_weights(again, whole)


def test_resume_is_exact_where_user_epochs_end_within_chunks(make):
    """Checkpoints by epoch lie inside a chunk there; the evaluations that follow are the same, too."""
    settings = {"per_device_train_batch_size": 4, "num_train_epochs": 5}
    states = []
    for folder in ("whole", "again"):
        trainer = make(folder=folder, save_strategy="epoch", eval_strategy="epoch", **settings)
        fastprune.attach(trainer, method="el2n", keep_fraction=0.3, cycle_epochs=2)
        if folder == "again":
            first = sorted(os.listdir(states[0][0]), key=lambda name: int(name.split("-")[1]))[1]
            torch.manual_seed(99)
            trainer.train(resume_from_checkpoint=os.path.join(states[0][0], first))
        else:
            trainer.train()
        entries = [e for e in trainer.state.log_history if "eval_loss" in e]
        losses = [(e["step"], e["epoch"], e["eval_loss"]) for e in entries]
        states.append((trainer.args.output_dir, toy.weights(trainer), losses))
    toy.assert_same_weights(states[0][1], states[1][1])
    assert len(states[0][2]) == 5 and states[0][2] == states[1][2]


def test_resume_is_exact_inside_a_chunk_of_two_permutations(make):
    """Chunks of five steps of four: the sixth holds the end of an epoch of 30, and the next one's beginning."""
    settings = {"data": toy.hub_dataset(80), "num_train_epochs": 3, "per_device_train_batch_size": 4}
    runs = []
    for folder in ("whole", "again"):
        trainer = make(folder=folder, save_strategy="steps", save_steps=27, **settings)
        pruner = fastprune.attach(trainer, keep_fraction=0.375, cycle_epochs=2, method="el2n-free")
        runs.append(trainer)
        trainer.train(resume_from_checkpoint=f"{runs[0].args.output_dir}/checkpoint-27" if folder == "again" else None)
    whole, again = runs
    assert len(whole.batches) == 35 and len(pruner.sampler.pieces) == 7
    assert sorted(whole.trained_on[80:110]) == sorted(whole.trained_on[110:140]) == pruner.kept_indices.tolist()
    assert all(len(set(batch)) == 4 for batch in whole.batches)
    assert again.batches == whole.batches[27:]
    toy.assert_same_weights(again, whole)


def test_resume_finds_the_last_checkpoint_and_keeps_an_unknown_seed(make):
    """Without ``seed`` the order is the random state's; a new process goes on in the order that was begun."""
    whole, _ = attached(make, "out", "el2n", save_strategy="epoch")
    torch.manual_seed(4321)
    whole.train()
    last = max(os.listdir(whole.args.output_dir), key=lambda name: int(name.split("-")[1]))
    os.rename(os.path.join(whole.args.output_dir, last), os.path.join(whole.args.output_dir, "last"))
    again, _ = attached(make, "out", "el2n", save_strategy="no")
    again.train(resume_from_checkpoint=True)
    assert again.batches == whole.batches[-len(again.batches) :] and len(again.batches) < len(whole.batches)
    toy.assert_same_weights(again, whole)


def test_resume_with_workers_reads_the_same_batches(make):
    """Weights are not compared: each start of workers draws from the global generator, with or without us."""
    settings = {"dataloader_num_workers": 2, "dataloader_persistent_workers": True, "num_train_epochs": 3}
    whole, _ = attached(make, "whole", "el2n", saves=[12], **settings)
    whole.train()
    again, _ = attached(make, "again", "el2n", saves=[], **settings)
    again.train(resume_from_checkpoint=os.path.join(whole.args.output_dir, "checkpoint-12"))
    assert len(again.batches) == 8
    # The rest of the chunk; the next kept set depends on weights.
    assert again.batches[:3] == whole.batches[12:15]


@pytest.fixture
def checkpoint(make):
    trainer, _ = attached(make, "out", "el2n", max_steps=3, num_train_epochs=1)
    trainer.train()
    return os.path.join(trainer.args.output_dir, "checkpoint-2")


def test_state_is_plain_and_written_whole(checkpoint):
    state = torch.load(os.path.join(checkpoint, "fastprune.pt"), weights_only=True)
    assert state["pruner"]["n"] == toy.N
    assert not [name for name in os.listdir(checkpoint) if name.endswith(".tmp")]


def test_refuses_what_does_not_belong_to_the_checkpoint(make, checkpoint):
    def resume(match, data=None, keep=0.5, method="el2n", seed=None, **settings):
        settings = {"max_steps": 3, "per_device_train_batch_size": 5, **settings}
        trainer = make(data=data, **settings)
        fastprune.attach(trainer, keep_fraction=keep, method=method, seed=seed)
        with pytest.raises(ValueError, match=match):
            trainer.train(resume_from_checkpoint=checkpoint)
        assert trainer.batches == []

    other = toy.rows()
    other["labels"] = other["labels"][::-1]
    import datasets

    other = datasets.Dataset.from_dict(other)
    resume("belongs to another data set: its fingerprint is .* this one's is", data=other)
    resume("n = 50, this run has 40|chunks of", data=toy.hub_dataset(40))
    resume("'el2n', this run has 'loss'", method="loss")
    resume("'keep_fraction': 0.5.*'keep_fraction': 0.52", keep=0.52)
    resume("seed = 11, this run has 3", seed=3)
    resume("num_train_epochs", max_steps=16)
    state = os.path.join(checkpoint, "fastprune.pt")
    torch.save({**torch.load(state, weights_only=True), "version": 2}, state)
    resume("is of version 2, this fastprune reads versions 3 and 4; resume it with the fastprune that wrote it")
    os.remove(state)
    resume("was not made with fastprune attached")


def test_refuses_other_steps_in_chunks_of_the_same_length(make):
    """Chunks of 25 examples are five steps of 5, or one of 25: a count of steps would lead to another chunk."""
    whole, _ = attached(make, "whole", "el2n-free", num_train_epochs=2, save_steps=12)
    whole.train()
    again, _ = attached(make, "again", "el2n-free", num_train_epochs=2, gradient_accumulation_steps=5)
    with pytest.raises(ValueError, match="steps of 5 examples on all processes, this run takes 25; resume with the"):
        again.train(resume_from_checkpoint=os.path.join(whole.args.output_dir, "checkpoint-12"))
    assert again.batches == []


@pytest.mark.parametrize(("trained", "asked"), [(3, 4), (4, 3)])
def test_a_number_of_epochs_that_would_have_made_other_epochs_is_refused(make, trained, asked):
    ramp = fastprune.LinearRamp(1.0, 0.3)
    settings = {"data": toy.hub_dataset(100), "per_device_train_batch_size": 20}
    first = make(**settings, num_train_epochs=trained, save_strategy="steps", save_steps=1)
    fastprune.attach(first, method="el2n", keep_fraction=ramp)
    first.train()
    # Epochs of 100, 100 and 30 examples in chunks of 20, or of 100, 100, 65 and 30.
    for step in (11, 12):
        second = make(**settings, num_train_epochs=asked)
        fastprune.attach(second, method="el2n", keep_fraction=ramp)
        with pytest.raises(ValueError, match="go on with the number"):
            second.train(resume_from_checkpoint=f"{first.args.output_dir}/checkpoint-{step}")


@pytest.mark.parametrize("keep, step", [(1.0, 3), (0.5, 10)])
def test_another_batch_size_is_refused_inside_an_epoch_and_at_its_end(make, keep, step):
    """The Trainer counts in steps: those of the checkpoint would lead it to other examples."""
    whole = make(per_device_train_batch_size=5, num_train_epochs=2, save_strategy="steps", save_steps=step)
    fastprune.attach(whole, keep_fraction=keep, method="el2n-free")
    whole.train()
    checkpoint = os.path.join(whole.args.output_dir, f"checkpoint-{step}")
    refused, same = ((25, 1, 25), (5, 2, 10)), (1, 5)
    if older_trainers.KEEPS_BATCH_SIZE:  # whatever batch size is asked for, it is 5
        refused, same = ((1, 5, 25), (5, 2, 10)), (25, 1)
    for batch, accumulation, taken in refused:
        again = make(num_train_epochs=2, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation)
        fastprune.attach(again, keep_fraction=keep, method="el2n-free")
        with pytest.raises(UsageError, match=f"in optimizer steps of 5 examples .*takes {taken}; resume"):
            again.train(resume_from_checkpoint=checkpoint)
        assert again.batches == []
    batch, accumulation = same
    again = make(num_train_epochs=2, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation)
    fastprune.attach(again, keep_fraction=keep, method="el2n-free")
    again.train(resume_from_checkpoint=checkpoint)
    # The same steps, cut otherwise.
    assert again.trained_on[: 50 - 5 * step] == whole.trained_on[5 * step :][: 50 - 5 * step]
    assert again.state.global_step == whole.state.global_step
