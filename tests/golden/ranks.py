"""The Trainer's golden runs on two Gloo processes.  Run as a script it starts them.

Its argument is a folder.  ``jobs.json`` in it holds the runs, and rank 0 leaves their records in ``records.json``.
The processes are forked after the imports, which take longer than the runs.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist
from helpers import under_torchrun

from golden.recordings import Batch, Record, Recorded

RANKS = 2
SECONDS = 300
Job = dict[str, Any]
"""The arguments of `golden.trainer_loop.run` without its folder, and a ``name``.

``save`` is the step after which it writes a checkpoint; ``resume`` the name of the job from whose checkpoint it goes
on."""


def records_of(jobs: Sequence[Job], folder: Path) -> dict[str, Recorded]:
    """Start the processes, and wait for the records of the jobs by their names.

    Raises:
        AssertionError: one of them failed.
    """
    (folder / "jobs.json").write_text(json.dumps(jobs))
    done = subprocess.run(
        [sys.executable, __file__, str(folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS + 60,
    )
    assert done.returncode == 0, done.stdout
    return json.loads((folder / "records.json").read_text())


def together(own: Record) -> Record:
    """The record of all ranks; they must agree on everything but the examples that each read."""
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, own)
    batches = []
    for step in zip(*(rank.batches for rank in everyone), strict=True):
        [(epoch, kept)] = {(batch.epoch, batch.kept) for batch in step}
        batches.append(Batch(epoch, kept, tuple(batch.read[0] for batch in step)))
    assert all((rank.optimizer_steps, rank.weights) == (own.optimizer_steps, own.weights) for rank in everyone)
    return Record(batches, own.optimizer_steps, sum(rank.scored for rank in everyone), own.weights)


def train(folder: Path) -> None:
    """All jobs on this rank."""
    from golden.trainer_loop import checkpoint, run

    records: dict[str, Recorded] = {}
    saved: dict[str, Path] = {}
    for job in json.loads((folder / "jobs.json").read_text()):
        name, case, data = job.pop("name"), job.pop("case"), job.pop("data")
        save, resume = job.pop("save", None), job.pop("resume", None)
        if save is not None:
            saved[name] = checkpoint(folder / name, save)
        record = run(
            case,
            data,
            folder / name,
            save=() if save is None else (save,),
            resume=None if resume is None else saved[resume],
            backend="gloo",
            **job,
        )
        records[name] = together(record).as_data()
    if dist.get_rank() == 0:
        (folder / "records.json").write_text(json.dumps(records))
    dist.barrier()


def forked(rank: int, folder: Path) -> int:
    """The number of a new process that is this rank, and ends without going on here."""
    if number := os.fork():
        return number
    try:
        # As torchrun would tell accelerate.
        own, all_of_them = str(rank), str(RANKS)
        os.environ.update(RANK=own, LOCAL_RANK=own, WORLD_SIZE=all_of_them, LOCAL_WORLD_SIZE=all_of_them)
        under_torchrun.settle(SECONDS)
        dist.init_process_group(
            "gloo", f"file://{folder / 'store'}", timedelta(seconds=60), world_size=RANKS, rank=rank
        )
        train(folder)
        dist.destroy_process_group()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def main(folder: Path) -> None:
    # Both before the fork: the second takes seconds, and the first optimizer imports it.
    import torch._dynamo  # noqa: F401

    import golden.trainer_loop  # noqa: F401

    gc.freeze()  # accelerate collects garbage in every run, and would go through all that was ever imported
    numbers = [forked(rank, folder) for rank in range(RANKS)]
    failed = [os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) for number in numbers]
    sys.exit(any(failed))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
