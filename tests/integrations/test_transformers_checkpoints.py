"""Which checkpoints count as complete, and runs that are killed while they write one or at any other moment."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import fastprune
from fastprune.errors import UsageError

HERE = Path(__file__).parent
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


class Runs:
    """Starts runs in a folder, each in a process of its own, which may be killed."""

    def __init__(self) -> None:
        path = os.pathsep.join([str(HERE), *(p for p in sys.path if p)])
        self.server = subprocess.Popen(
            [sys.executable, str(HERE / "killed_worker.py")],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def start(self, folder: Path) -> int:
        """The process that trains there, once it does."""
        self.server.stdin.write(f"{folder}\n")
        # Two processes write: either line may come first.
        said = dict(self._next("forked", "training") for _ in range(2))
        return int(said["forked"])

    def end(self) -> int:
        """The status of the process that was started last, negative if a signal ended it."""
        return int(self._next("ended")[1])

    def _next(self, *words: str) -> tuple[str, str]:
        """The next line that begins with one of the words, and its rest; the trainer writes lines, too."""
        for line in self.server.stdout:
            word, _, rest = line.strip().partition(" ")
            if word in words:
                return word, rest
        raise AssertionError(f"the server ended before it said one of {words}")

    def finished(self, folder: Path) -> dict:
        """What a run that is left alone writes."""
        self.start(folder)
        assert self.end() == 0
        return torch.load(folder / "result.pt", weights_only=True)


@pytest.fixture
def runs():
    found = Runs()
    yield found
    found.server.communicate(timeout=60)
    assert found.server.returncode == 0


def test_a_run_killed_at_random_moments_ends_as_if_it_had_not_been(tmp_path, runs):
    whole = runs.finished(tmp_path / "whole")
    moments = random.Random(SEED)
    folder = tmp_path / "killed"
    kills = 0
    while kills < KILLS:
        process = runs.start(folder)
        time.sleep(moments.uniform(0.0, whole["seconds"]))
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        if runs.end() != -signal.SIGKILL:  # it got to the end before
            (folder / "result.pt").unlink()
            shutil.rmtree(folder / "run")
            continue
        kills += 1
    again = runs.finished(folder)
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
