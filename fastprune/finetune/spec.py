"""What a run is: which method, how long, on how much; and the runs of a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fastprune.errors import UsageError
from fastprune.pruning import EMA, Latest, Mean, Schedule, get_method
from fastprune.pruning.schedule import budget
from fastprune.pruning.statistics import Statistic


def parse_smoothing(text: str) -> Statistic:
    """``latest``, ``ema`` (the paper's joint NLU default) or ``mean:M`` (of the last M scores).

    Raises:
        UsageError: none of these.
    """
    if text == "latest":
        return Latest()
    if text == "ema":
        return EMA()
    kind, _, last = text.partition(":")
    if kind == "mean" and last.isdecimal() and int(last) > 0:
        return Mean(int(last))
    raise UsageError(f"--smoothing is latest, ema or mean:M with M >= 1, got {text!r}")


@dataclass(frozen=True)
class Training:
    """How a model is trained; the same for every run of a comparison."""

    epochs: int
    warmup_epochs: int
    cycle_epochs: int
    batch_size: int
    lr: float
    bf16: bool
    smoothing: str
    offset: float
    max_length: int

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "max_length"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name.replace('_', '-')} must be >= 1, got {getattr(self, name)}")
        if not 0 < self.lr < math.inf:
            raise UsageError(f"--lr must be a finite number > 0, got {self.lr}")
        if not 0.0 <= self.offset < 1.0:
            raise UsageError(f"--offset is the share dropped from the hard end, in [0, 1), got {self.offset}")
        parse_smoothing(self.smoothing)


@dataclass(frozen=True)
class RunSpec:
    """One training run.

    ``max_examples`` ends it early, with the learning-rate schedule compressed to that length.
    """

    name: str
    method: str
    keep_fraction: float
    seed: int
    max_examples: int | None = None


def plan_runs(
    methods: Sequence[str],
    keep_fractions: Sequence[float],
    seeds: Sequence[int],
    *,
    n: int,
    training: Training,
    compare: bool,
) -> list[RunSpec]:
    """The runs in the order they are made: seed by seed, ``full`` first.

    Without ``compare``: full and every method at every keep fraction.  With it also ``short full`` (full,
    cut to the pruned run's budget in examples) and ``random`` at every keep fraction.

    Raises:
        UsageError: a keep fraction or the schedule is out of range, or a method is unknown.
    """
    budgets = {}
    try:
        for method in methods:
            get_method(method)
        for keep in keep_fractions:
            schedule = Schedule(keep, training.warmup_epochs, training.cycle_epochs)
            if keep + training.offset > 1.0:
                raise UsageError(
                    f"--offset {training.offset:g} and --keep-fraction {keep:g} exceed 1 together; lower one of them"
                )
            budgets[keep] = budget(schedule.phases(n, training.epochs))
    except ValueError as error:
        raise UsageError(str(error)) from error
    wanted = list(dict.fromkeys((["random"] if compare else []) + [m for m in methods if m != "full"]))
    specs = []
    for seed in seeds:
        specs.append(RunSpec("full", "full", 1.0, seed))
        for keep in keep_fractions:
            if compare:
                specs.append(RunSpec(f"short full {keep:g}", "full", keep, seed, max_examples=budgets[keep]))
            specs += [RunSpec(f"{method} {keep:g}", method, keep, seed) for method in wanted]
    return specs
