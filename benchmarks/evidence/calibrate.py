"""How long a padded token takes on this machine when it is idle, and whether whole runs bear it out."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.evidence.loop import SCORING_BATCH_FACTOR, Training
from benchmarks.evidence.machine import machine
from benchmarks.evidence.model import forward
from benchmarks.evidence.plan import Plan
from benchmarks.evidence.spec import Run
from benchmarks.evidence.timemodel import run_seconds, setting
from benchmarks.evidence.tokens import Tokens
from benchmarks.evidence.work import Work
from fastprune.pruning.scoring import evaluation_mode

QUANTILES = (0.0, 0.25, 0.6, 0.9, 1.0)
"""The widths that are measured: these quantiles of the lengths of the training examples."""

ROUNDS = 5
WARMUP = 1
IDLE = 0.15
"""A machine is idle if other work takes less than this share of its cores."""

Timer = Callable[[Callable[[], Any]], float]


def busy_share(seconds: float = 2.0) -> float:
    """The share of the machine's cores that is at work now, read from the kernel's counters."""

    def read() -> tuple[int, int]:
        fields = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return fields[3] + fields[4], sum(fields)

    idle, total = read()
    time.sleep(seconds)
    idle_after, total_after = read()
    return 1.0 - (idle_after - idle) / max(1, total_after - total)


def widths_of(tokens: Tokens) -> list[int]:
    """The widths to measure for a data set, ascending."""
    lengths = tokens.lengths.sort().values
    return sorted({int(lengths[min(len(lengths) - 1, int(q * len(lengths)))]) for q in QUANTILES})


def batch_of_width(tokens: Tokens, width: int, rows: int) -> Tensor:
    """Indices of ``rows`` examples, the longest of which has ``width`` tokens: real batches are of like length."""
    fitting = (tokens.lengths <= width).nonzero().flatten()
    order = tokens.lengths[fitting].argsort(descending=True, stable=True)
    chosen = fitting[order][:rows]
    return chosen.repeat(-(-rows // len(chosen)))[:rows]


def curves(work: Work, run: Run, timer: Timer) -> dict[str, dict[str, float]]:
    """Seconds for each padded token by kind and width, for the data set and model of ``run``; medians over rounds.

    The rounds go through all widths and kinds in turn, so that a machine that slows down slows all of them.
    """
    full = work.start(Run(**{**run.arguments, "method": "full", "budget": None, "keep": None}))
    free = work.start(Run(**{**run.arguments, "method": "el2n-free", "budget": 0.5, "keep": None, "epochs": 1000}))
    for training in (full, free):
        next(training.pruner.epochs(training.run.epochs))  # a pruner takes scores inside an epoch alone
        training.total = 10**9
        training.model.train()
    tokens = full.train
    cases: dict[tuple[str, int], tuple[int, Callable[[], Any]]] = {}
    for width in widths_of(tokens):
        small = batch_of_width(tokens, width, run.batch_size)
        large = batch_of_width(tokens, width, SCORING_BATCH_FACTOR * run.batch_size)
        cases["step", width] = len(small), _bound(full._step, small)
        cases["step_scored", width] = len(small), _bound(free._step, small)
        cases["score", width] = len(large), _bound(_score, free, large)
        cases["forward", width] = len(large), _bound(_forward, free, large)
    times: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    for round in range(WARMUP + ROUNDS):
        for case, (_, call) in cases.items():
            seconds = timer(call)
            if round >= WARMUP:
                times[case].append(seconds)
    found: dict[str, dict[str, float]] = {}
    for (kind, width), taken in times.items():
        rows = cases[kind, width][0]
        found.setdefault(kind, {})[str(width)] = statistics.median(taken) / (rows * width)
    return found


def _bound(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    return lambda: function(*arguments)


def _score(training: Training, index: Tensor) -> None:
    training._scores(index, lambda examples: None)


def _forward(training: Training, index: Tensor) -> None:
    with evaluation_mode(training.model):
        forward(training.model, training.train.batch(index), bf16=training.bf16)


def timer_of(device: str) -> Timer:
    """Seconds of a call by the wall clock, to the end of its work on the device."""

    def timed(call: Callable[[], Any]) -> float:
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    return timed


def calibrate(work: Work, runs: Sequence[Run], say: Callable[[str], None]) -> dict[str, Any]:
    """The calibration of this machine for the data sets and models of ``runs``."""
    found: dict[str, Any] = {}
    timer = timer_of(work.place.device)
    start = time.perf_counter()
    for run in runs:
        if setting(run.arguments) not in found:
            found[setting(run.arguments)] = curves(work, run, timer)
            say(f"{setting(run.arguments)}: {time.perf_counter() - start:.0f} s so far")
    return {
        "machine": machine(work.place.device, work.place.threads, runs[0].precision),
        "versions": work.versions,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "curves": found,
        "confirmed": [],
    }


def runs_to_confirm(plan: Plan) -> list[Run]:
    """Three short runs that differ in what they do: train alone, record scores, and pass over all data for them."""
    lr = {name: entry.defaults["lr"] for name, entry in plan.data.items() if "lr" in entry.defaults}
    return [
        Run("cola", "full", 5, lr["cola"], budget=0.2),
        Run("banking77", "el2n-free", 5, lr["banking77"], budget=0.25),
        Run("atis", "el2n", 5, lr["atis"], budget=0.3, smoothing="ema"),
    ]


def confirm(work: Work, calibration: dict[str, Any], runs: Iterable[Run], say: Callable[[str], None]) -> list[Any]:
    """Make whole runs on the idle machine, and compare their wall-clock time with the computed one."""
    rows = []
    for run in runs:
        training = work.start(run)
        training.outcome.counts.clock = time.perf_counter  # type: ignore[method-assign]
        outcome = training.finish()
        counts = outcome.counts.as_json()
        line = {"arguments": run.arguments, "machine": calibration["machine"], "counts": counts}
        measured = sum(counts["cpu_seconds"].values())
        computed = sum(run_seconds(calibration, line).values())
        rows.append(
            {
                "run": f"{run.data}, {run.epochs} epochs, {run.label}, budget {run.budget}",
                "measured_seconds": round(measured, 2),
                "computed_seconds": round(computed, 2),
                "error": round(computed / measured - 1, 4),
            }
        )
        say(f"{rows[-1]['run']}: measured {measured:.1f} s, computed {computed:.1f} s, {computed / measured - 1:+.1%}")
    return rows
