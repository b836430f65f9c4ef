"""Whole runs on the idle machine, beside their computed time.

The machine's own speed changes within minutes. So a run halts every few seconds, and the batches of the calibration are
measured again. Its computed time is the one for the machine at that moment.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmarks.evidence.calibrate import Key, cases_of, curves_from, one_round, timer_of, warm
from benchmarks.evidence.plan import Plan
from benchmarks.evidence.spec import Run
from benchmarks.evidence.timemodel import compared, step_kind
from benchmarks.evidence.work import Place, Work

EVERY = 3.0
"""Seconds of the run between two measurements beside it."""


def runs_to_confirm(plan: Plan) -> list[Run]:
    """Three short runs: one only trains, one records scores, and one scores all data in passes."""
    lr = {name: entry.defaults["lr"] for name, entry in plan.data.items() if "lr" in entry.defaults}
    return [
        Run("cola", "full", 5, lr["cola"], budget=0.2),
        Run("banking77", "el2n-free", 5, lr["banking77"], budget=0.25),
        Run("atis", "el2n", 5, lr["atis"], budget=0.3, smoothing="ema"),
    ]


def confirm(work: Work, calibration: Mapping[str, Any], runs: Iterable[Run], say: Callable[[str], None]) -> list[Any]:
    """Make the runs, and compare the wall-clock time of each with the computed one."""
    rows = []
    for run in runs:
        cases = cases_of(work, run, (step_kind(run.arguments), "score"))
        timer = timer_of(work.place.device)
        one_round(cases, timer)  # the first batch at each width takes longer
        counts, rounds = run_beside(work.place, run, lambda: one_round(cases, timer))  # noqa: B023
        line = {"arguments": run.arguments, "machine": calibration["machine"], "counts": counts}
        name = f"{run.data}, {run.epochs} epochs, {run.label}, budget {run.budget}"
        row = compared(calibration, curves_from(rounds), line)
        rows.append({"run": name, **row})
        say(
            f"{name}: measured {row['measured_seconds']:.1f} s, computed {row['computed_seconds']:.1f} s, "
            f"{row['error']:+.1%}; the machine {row['slower']:.2f} times as slow as calibrated, by whose figures "
            f"{row['error_of_the_file']:+.1%}"
        )
    return rows


def run_beside(
    place: Place, run: Run, measure: Callable[[], dict[Key, float]], every: float = EVERY
) -> tuple[dict[str, Any], list[dict[Key, float]]]:
    """The counts of a run in a new process, and the measurements before it, in its halts and after it.

    The process is new because the first batch at a width takes longer once in a process.

    Raises:
        RuntimeError: The run failed.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_whole_run, args=(theirs, place, run, every), daemon=True)
    process.start()
    theirs.close()
    rounds = []
    try:
        while (said := ours.recv()) == "halted":
            rounds.append(measure())
            ours.send("go on")
    except EOFError:
        raise RuntimeError(f"the run {run.key} failed") from None
    finally:
        process.join()
    return said, [*rounds, measure()]


class HaltingClock:
    """Seconds of the wall clock, without those in which it was halted."""

    def __init__(self) -> None:
        self._lost = 0.0

    def __call__(self) -> float:
        return time.perf_counter() - self._lost

    @contextmanager
    def halted(self) -> Iterator[None]:
        """The body takes no time."""
        start = time.perf_counter()
        yield
        self._lost += time.perf_counter() - start


def _whole_run(connection: Connection, place: Place, run: Run, every: float) -> None:
    """Make the run. Send "halted" before its first step and every few seconds, and its counts at the end."""
    work = Work(place)
    warm(work, run)
    training = work.start(run)
    clock = HaltingClock()
    training.outcome.counts.clock = clock  # type: ignore[method-assign]

    def halt() -> None:
        nonlocal last
        with clock.halted():
            connection.send("halted")
            connection.recv()
        last = clock()

    def progress(examples: int) -> None:
        if clock() - last >= every:
            if place.device == "cuda":
                torch.cuda.synchronize()
            halt()

    last = clock()
    halt()
    connection.send(training.finish(progress).counts.as_json())
