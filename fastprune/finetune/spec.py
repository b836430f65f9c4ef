"""What a run is: which method, how long, on how much; and the runs of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import fastprune.pruning as pruning
from fastprune.errors import UsageError
from fastprune.pruning.schedule import Schedule, budget


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

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name.replace('_', '-')} must be >= 1, got {getattr(self, name)}")
        if not self.lr > 0:
            raise UsageError(f"--lr must be > 0, got {self.lr}")


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
            pruning.get_method(method)
        for keep in keep_fractions:
            schedule = Schedule(keep, training.warmup_epochs, training.cycle_epochs)
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
