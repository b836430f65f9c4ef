"""Which checkpoints count as complete, and runs that are killed while they write one or at any other moment."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import killed_worker
import pytest
import torch
from helpers import forked

import fastprune
from fastprune.errors import UsageError

KILLS = int(os.environ.get("FASTPRUNE_KILLS", "3"))
SEED = int(os.environ.get("FASTPRUNE_SEED", "0"))


def test_a_checkpoint_is_marked_last_and_older_ones_go_only_then(make):
    trainer = make(num_train_epochs=3, save_strategy="epoch", save_total_limit=1)
    fastprune.attach(trainer, method="el2n", keep_fraction=0.5)
    seen = []
    original = trainer._save_rng_state

    def writing(folder):
        out = trainer.args.output_dir
        seen.append([name for name in os.listdir(out) if os.path.isfile(os.path.join(out, name, "fastprune.pt"))])
        return original(folder)

    trainer._save_rng_state = writing
    trainer.train()
    assert [len(complete) for complete in seen] == [0, 1, 1], "there is always one complete checkpoint after the first"
    assert len(os.listdir(trainer.args.output_dir)) == 1


def test_resume_skips_what_is_not_complete(make, caplog):
    trainer = make(num_train_epochs=3, save_strategy="steps", save_steps=4)
    fastprune.attach(trainer, method="el2n", keep_fraction=0.5)
    trainer.train()
    out = trainer.args.output_dir
    newest = max(os.listdir(out), key=lambda name: int(name.split("-")[1]))
    os.remove(os.path.join(out, newest, "fastprune.pt"))
    os.remove(os.path.join(out, newest, "optimizer.pt"))
    again = make(num_train_epochs=3, save_strategy="no")
    fastprune.attach(again, method="el2n", keep_fraction=0.5)
    again.train(resume_from_checkpoint=True)
    assert f"{newest} is not complete" in caplog.text
    assert again.batches == trainer.batches[-len(again.batches) :]
    empty = make(folder="empty")
    fastprune.attach(empty, method="el2n", keep_fraction=0.5)
    with pytest.raises(UsageError, match="no complete checkpoint"):
        empty.train(resume_from_checkpoint=True)


def start(folder):
    """A process that trains there, once it does."""
    ours, theirs = forked.context().Pipe(duplex=False)
    process = forked.start(killed_worker.train, folder, theirs)
    theirs.close()
    assert ours.recv() == "training"
    return process


def finished(folder):
    """What a run that is left alone leaves."""
    process = start(folder)
    process.join()
    assert process.exitcode == 0
    return torch.load(folder / "result.pt", weights_only=True)


def test_a_run_killed_at_random_moments_ends_as_if_it_had_not_been(tmp_path):
    whole = finished(tmp_path / "whole")
    moments = random.Random(SEED)
    folder = tmp_path / "killed"
    kills = 0
    while kills < KILLS:
        process = start(folder)
        time.sleep(moments.uniform(0.0, whole["seconds"]))
        process.kill()
        process.join()
        if process.exitcode != -signal.SIGKILL:  # it got to the end before
            (folder / "result.pt").unlink()
            shutil.rmtree(folder / "run")
            continue
        kills += 1
    again = finished(folder)
    for key in ("kept", "scores", "weights", "metrics"):
        same = torch.equal if isinstance(whole[key], torch.Tensor) else lambda one, other: one == other
        assert same(again[key], whole[key]), (key, again[key], whole[key])


def test_the_arguments_in_a_checkpoint_are_the_users(make):
    trainer = make(save_strategy="epoch", save_total_limit=2)
    fastprune.attach(trainer, method="el2n", keep_fraction=0.5)
    trainer.train()
    kept = sorted(Path(trainer.args.output_dir).glob("checkpoint-*"))
    assert len(kept) == 2 and trainer.args.save_total_limit == 2
    for folder in kept:
        assert torch.load(folder / "training_args.bin", weights_only=False).save_total_limit == 2
