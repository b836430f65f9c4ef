"""A Trainer takes whole steps, as many as a plain loop, however many examples pruning keeps."""

from __future__ import annotations

import logging

import pytest
from helpers import toy_trainer as toy
from transformers import TrainerCallback

import fastprune


@pytest.mark.parametrize(
    ("n", "keep", "batch", "accumulation", "batches", "advice"),
    [
        (117, 0.5, 32, 1, [32] * 10, None),
        (103, 0.3, 32, 1, [32] * 4 + [31] * 3, "Let each process read 31 or fewer examples in a batch"),
        # Epochs of 10 in steps of 16, and of 10 in batches of 16.
        (100, 0.1, 4, 4, [4] * (7 + 3) * 4, "Set gradient_accumulation_steps to 2 or less"),
        (100, 0.1, 16, 2, [16] * 7 + [10] * 3, "Let each process read 10 or fewer examples in a batch"),
    ],
)
def test_steps_of_a_run(make, caplog, n, keep, batch, accumulation, batches, advice):
    trainer = make(
        data=toy.hub_dataset(n),
        num_train_epochs=4,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
    )
    fastprune.attach(trainer, keep_fraction=keep, method="el2n-free")
    with caplog.at_level(logging.WARNING, "fastprune"):
        trainer.train()
    assert [len(indices) for indices in trainer.batches] == batches
    assert all(len(set(indices)) == len(indices) for indices in trainer.batches)
    assert trainer.state.global_step == trainer.state.max_steps
    assert trainer.state.epoch == 4.0 and trainer.lr_scheduler.get_last_lr()[0] == 0.0
    warnings = [record.getMessage() for record in caplog.records if record.name.startswith("fastprune")]
    assert len(warnings) == (advice is not None) and all(advice in warning for warning in warnings)


def test_a_step_that_holds_several_epochs_ends_them_all(make):
    ends = []

    class Ends(TrainerCallback):
        def on_epoch_begin(self, args, state, control, **kwargs):
            ends.append("begin")

        def on_epoch_end(self, args, state, control, **kwargs):
            ends.append((state.global_step, state.epoch))

    settings = {"num_train_epochs": 4, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 8}
    trainer = make(callbacks=[Ends()], **settings)
    fastprune.attach(trainer, keep_fraction=0.2, cycle_epochs=3, method="el2n-free")
    trainer.train()
    assert ends == ["begin", (2, 1.0), "begin", (3, 4.0), "begin", (3, 4.0), "begin", (3, 4.0)]


def test_a_resumed_run_of_short_epochs_is_exact(make):
    settings = {"data": toy.hub_dataset(40), "num_train_epochs": 4, "per_device_train_batch_size": 16}
    runs = []
    for checkpoint in (None, 2, 4, 5):
        trainer = make(folder=f"run{checkpoint}", save_strategy="steps", save_steps=1, **settings)
        fastprune.attach(trainer, keep_fraction=0.25, method="el2n-free")
        where = None if checkpoint is None else f"{runs[0].args.output_dir}/checkpoint-{checkpoint}"
        trainer.train(resume_from_checkpoint=where)
        runs.append(trainer)
        assert trainer.batches == runs[0].batches[checkpoint or 0 :]
    assert [len(batch) for batch in runs[0].batches] == [16] * 3 + [10] * 3
