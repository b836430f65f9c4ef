"""How long a padded token takes on this machine when it is idle."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.evidence.loop import SCORING_BATCH_FACTOR, Training
from benchmarks.evidence.machine import machine
from benchmarks.evidence.model import forward
from benchmarks.evidence.spec import Run
from benchmarks.evidence.timemodel import KINDS, first_setting, setting, through_drift
from benchmarks.evidence.tokens import Tokens
from benchmarks.evidence.work import Work
from fastprune.pruning.scoring import evaluation_mode

QUANTILES = (0.0, 0.25, 0.6, 0.9, 1.0)
"""The widths that are measured: these quantiles of the lengths of the training examples."""

ROUNDS = 9
PART = {"step": "train", "step_scored": "train", "score": "score", "forward": "score"}
"""What the first batch at a width counts for. A second kind of batch of the same part finds the width prepared."""

IDLE = 0.15
"""A machine is idle if other work takes less than this share of its cores."""

Timer = Callable[[Callable[[], Any]], float]
Key = tuple[str, int]
"""Kind and width."""


@dataclass(frozen=True)
class Case:
    """A batch to measure: what to call, and its number of examples."""

    rows: int
    call: Callable[[], Any]


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
    """Indices of ``rows`` examples. The longest has ``width`` tokens, and the others are nearly as long, as in a real
    batch.
    """
    fitting = (tokens.lengths <= width).nonzero().flatten()
    order = tokens.lengths[fitting].argsort(descending=True, stable=True)
    chosen = fitting[order][:rows]
    return chosen.repeat(-(-rows // len(chosen)))[:rows]


def cases_of(work: Work, run: Run, kinds: Sequence[str] = KINDS) -> dict[Key, Case]:
    """A batch of each kind at each width, for the data set and model of ``run``."""
    full = endless(work, Run(**{**run.arguments, "method": "full", "budget": None, "keep": None}))
    free = warm(work, run)
    tokens = full.train
    cases: dict[Key, Case] = {}
    for width in widths_of(tokens):
        small = batch_of_width(tokens, width, run.batch_size)
        large = batch_of_width(tokens, width, SCORING_BATCH_FACTOR * run.batch_size)
        every = {
            "step": Case(len(small), _bound(full._step, small)),
            "step_scored": Case(len(small), _bound(free._step, small)),
            "score": Case(len(large), _bound(_score, free, large)),
            "forward": Case(len(large), _bound(_forward, free, large)),
        }
        cases |= {(kind, width): every[kind] for kind in kinds}
    return cases


def endless(work: Work, run: Run) -> Training:
    """The run inside its first epoch, which takes any number of steps."""
    training = work.start(run)
    next(training.pruner.epochs(run.epochs))  # a pruner accepts scores only inside an epoch
    training.total = 10**9
    training.model.train()
    return training


def warm(work: Work, run: Run) -> Training:
    """A run that scores, after one step and one scored batch. It has the data and the model of ``run``.

    What happens once in a process must not be counted for the first batch at a width. So it happens here. The batches
    here have odd numbers of examples, which no measured batch has. So nothing is prepared for a measured width.
    """
    training = endless(
        work, Run(**{**run.arguments, "method": "el2n-free", "budget": 0.5, "keep": None, "epochs": 1000})
    )
    training._step(torch.arange(training.run.batch_size - 1) % len(training.train))
    _score(training, torch.arange(SCORING_BATCH_FACTOR * training.run.batch_size - 1) % len(training.train))
    return training


def one_round(cases: Mapping[Key, Case], timer: Timer) -> dict[Key, float]:
    """Seconds for each example of each case. All cases run once, so that a slow moment slows a whole round."""
    return {key: timer(case.call) / case.rows for key, case in cases.items()}


def curves_from(rounds: Sequence[Mapping[Key, float]]) -> dict[str, dict[str, float]]:
    """Seconds for each padded token by kind and width, from the seconds of an example in each round."""
    found: dict[str, dict[str, float]] = {}
    for (kind, width), seconds in through_drift(rounds).items():
        found.setdefault(kind, {})[str(width)] = seconds / width
    return found


@dataclass
class Firsts:
    """How much longer the first batch at a width takes than the second one.

    PyTorch's matrix products prepare code for each new shape, once in a process. So a width counts once, whatever data
    set it belongs to.
    """

    extra: dict[tuple[str, str, int], float] = field(default_factory=dict)

    def measure(self, name: str, cases: Mapping[Key, Case], timer: Timer) -> None:
        """Call each case twice in a row, so that a drift of the machine does not count."""
        for (kind, width), case in cases.items():
            first, second = timer(case.call), timer(case.call)
            self.extra.setdefault((name, PART[kind], width), first - second)

    def means(self) -> dict[str, dict[str, float]]:
        """Mean seconds by batch size and part. Widths differ little and without order, so one mean stands for all."""
        found: dict[str, dict[str, list[float]]] = {}
        for (name, part, _), seconds in self.extra.items():
            found.setdefault(name, {}).setdefault(part, []).append(seconds)
        return {
            name: {part: max(0.0, statistics.fmean(x)) for part, x in parts.items()} for name, parts in found.items()
        }


def _bound(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    return lambda: function(*arguments)


def _score(training: Training, index: Tensor) -> None:
    training._scores(index, lambda examples: None)


def _forward(training: Training, index: Tensor) -> None:
    with evaluation_mode(training.model):
        forward(training.model, training.train.batch(index), bf16=training.bf16)


def timer_of(device: str) -> Timer:
    """A function that returns the seconds of a call by the wall clock, up to the end of its work on the device."""

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
    firsts = Firsts()
    timer = timer_of(work.place.device)
    start = time.perf_counter()
    for run in runs:
        if setting(run.arguments) not in found:
            cases = cases_of(work, run)
            firsts.measure(first_setting(run.arguments), cases, timer)
            found[setting(run.arguments)] = curves_from([one_round(cases, timer) for _ in range(ROUNDS)])
            say(f"{setting(run.arguments)}: {time.perf_counter() - start:.0f} s so far")
    return {
        "machine": machine(work.place.device, work.place.threads, runs[0].precision),
        "versions": work.versions,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "curves": found,
        "first": firsts.means(),
        "confirmed": [],
    }
