"""Writes the golden records and state files again: ``PYTHONPATH=.:tests python -m golden.record [LOOP ...]``.

The loops are plain, trainer, lightning and ranks, by default all.  Without ``--states`` the state files stay as they
are: they say that what was saved then can be read now.

What is recorded must be the same on every processor, and scores differ in their last bits between processors.  So a
run is recorded only if it reads the same examples after every number of the data has been moved by up to one part in
10,000, in `JITTERS` different ways.  That moves every score by about as much, which is a thousand times what processors
differ by.  It covers every decision of a method: scores beside a cut, losses beside their mean, the borders of groups,
the largest class.  Scores that are equal by rule, such as counts or those of examples seen once, stay equal.  Among
them the index or a draw from the seed decides, neither of which depends on the processor.  The data are those of the
first seed for which this holds, and may be others for each case.
"""

from __future__ import annotations

import argparse
import gc
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from golden import recordings
from golden.cases import CASES, RANKS, STATES
from golden.recordings import Record, Recorded, batches_until, record_of, state_file

JITTERS = 8
SEEDS = 40
Run = Callable[[int, int | None], Record]
"""The record of a case's run on the data of a seed, moved or not."""


def robust(case: str, run: Run) -> Recorded:
    """The record on the data of the first seed on which it stays the same when they move."""
    for seed in range(SEEDS):
        record = run(seed, None)
        moved = [run(seed, jitter) for jitter in range(JITTERS)]
        if all(other.batches == record.batches for other in moved):
            _report(case, seed, record, moved)
            return {"data": seed, **record.as_data()}
    raise SystemExit(f"{case}: on none of {SEEDS} data sets does the run stay the same when their numbers move")


def _report(case: str, seed: int, record: Record, moved: list[Record]) -> None:
    largest = max(map(abs, record.weights))
    change = max(abs(a - b) for other in moved for a, b in zip(record.weights, other.weights, strict=True)) / largest
    print(f"{case}: data {seed}, {len(record.batches)} batches, weights move by {change:.1e}", flush=True)


def record_plain(folder: Path) -> None:
    from golden.plain_loop import SETTINGS, PlainLoop

    def recorded(case: str) -> Recorded:
        return robust(case, lambda seed, jitter: PlainLoop(case, seed, folder, jitter).run().record)

    recordings.write("plain", {case: recorded(case) for case in [*CASES, *SETTINGS]})


def states_of_plain(folder: Path) -> None:
    from golden.plain_loop import PlainLoop

    for place, case in STATES["plain"].items():
        recorded = recordings.read("plain")[case]
        loop = PlainLoop(case, recorded["data"], folder)
        loop.run(batches_until(recorded, place), scored=place == "scored")
        torch.save(loop.state(), state_file("plain", case, place))


def record_trainer(folder: Path) -> None:
    from golden.trainer_loop import SETTINGS, run

    gc.freeze()  # accelerate collects garbage in every run, and would go through all that was ever imported

    def recorded(case: str) -> Recorded:
        return robust(case, lambda seed, jitter: run(case, seed, folder, jitter=jitter))

    recordings.write("trainer", {case: recorded(case) for case in [*CASES, *SETTINGS]})


def states_of_trainer(folder: Path) -> None:
    from golden.trainer_loop import STATE_FILE, checkpoint, run

    for place, case in STATES["trainer"].items():
        recorded = recordings.read("trainer")[case]
        step = batches_until(recorded, place)
        run(case, recorded["data"], folder / case, save=[step])
        shutil.copyfile(checkpoint(folder / case, step) / STATE_FILE, state_file("trainer", case, place))


def record_lightning(folder: Path) -> None:
    from golden.lightning_loop import SETTINGS, run

    def recorded(case: str) -> Recorded:
        return robust(case, lambda seed, jitter: run(case, seed, folder, jitter=jitter))

    recordings.write("lightning", {case: recorded(case) for case in [*CASES, *SETTINGS]})


def states_of_lightning(folder: Path) -> None:
    from golden.lightning_loop import STATE_KEY, checkpoint, run

    for place, case in STATES["lightning"].items():
        recorded = recordings.read("lightning")[case]
        step = batches_until(recorded, place)
        run(case, recorded["data"], folder, save=[step])
        saved = torch.load(checkpoint(folder, step), weights_only=True)
        torch.save(saved["callbacks"][STATE_KEY], state_file("lightning", case, place))


def record_ranks(folder: Path) -> None:
    """All runs in one start of the processes, which takes longer than they do."""
    from golden.ranks import records_of

    moves = [None, *range(JITTERS)]
    jobs = [
        {"name": f"{case} {seed} {jitter}", "case": case, "data": seed, "jitter": jitter}
        for case in RANKS
        for seed in range(4)
        for jitter in moves
    ]
    found = records_of(jobs, folder)

    def recorded(case: str) -> Recorded:
        return robust(case, lambda seed, jitter: record_of(found[f"{case} {seed} {jitter}"]))

    recordings.write("ranks", {case: recorded(case) for case in RANKS})


LOOPS = {"plain": record_plain, "trainer": record_trainer, "lightning": record_lightning, "ranks": record_ranks}
STATE_WRITERS = {"plain": states_of_plain, "trainer": states_of_trainer, "lightning": states_of_lightning}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m golden.record", description="Write the golden records again.")
    parser.add_argument("loops", nargs="*", metavar="LOOP", help=f"of {', '.join(LOOPS)}; all by default")
    parser.add_argument("--states", action="store_true", help="write the state files, too")
    arguments = parser.parse_args()
    unknown = [loop for loop in arguments.loops if loop not in LOOPS]
    if unknown:
        parser.error(f"there is no loop {unknown[0]!r}; choose of {', '.join(LOOPS)}")
    for loop in arguments.loops or LOOPS:
        with tempfile.TemporaryDirectory() as folder:
            LOOPS[loop](Path(folder))
            if arguments.states and loop in STATE_WRITERS:
                STATE_WRITERS[loop](Path(folder))


if __name__ == "__main__":
    main()
