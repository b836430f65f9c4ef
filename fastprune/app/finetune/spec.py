"""Says what a run is: which method, how long, on how much.  Plans the runs of a comparison."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from fastprune.errors import UsageError
from fastprune.methods import ScoreMethod, Static
from fastprune.pruning import (
    KeepFraction,
    Latest,
    Method,
    Phase,
    Statistic,
    as_statistic,
    get_method,
    parse_keep_fraction,
    parse_method,
)


def parse_smoothing(text: str) -> Statistic:
    """Return what `as_statistic` does, with a `UsageError` that names the option."""
    try:
        return as_statistic(text)
    except ValueError as error:
        raise UsageError(f"--{error}") from None


@dataclass(frozen=True)
class Training:
    """How a model is trained, the same for every run of a comparison.

    ``offset`` 0, and None for ``warmup_epochs``, ``cycle_epochs`` and ``final_share``, leave a method its own.
    ``lora`` is the rank of the adapters that are trained in place of a language model, or None.
    """

    epochs: int
    warmup_epochs: int | None
    cycle_epochs: int | None
    batch_size: int
    lr: float
    bf16: bool
    smoothing: str
    offset: float
    max_length: int
    final_share: float | None = None
    lora: int | None = None

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

    ``keep_fraction`` is what tables show.  For a ramp or a budget, which ``keep`` then spells, it is the mean over the
    cycles.  ``max_examples`` ends the run early, with the learning-rate schedule compressed to that length.
    """

    name: str
    method: str
    keep_fraction: float
    seed: int
    max_examples: int | None = None
    keep: str | None = None

    @property
    def fraction(self) -> KeepFraction:
        """Return what the run's pruner is given as its ``keep_fraction``.

        Raises:
            ValueError: ``keep`` spells none.
        """
        return self.keep_fraction if self.keep is None else _parsed(self.keep)


@functools.cache
def _parsed(text: str) -> KeepFraction:
    """A spelling is parsed once, however many runs and seeds share it."""
    return parse_keep_fraction(text)


def takes_offset(method: Method) -> bool:
    """Whether the method has a share that it drops from the hard end."""
    return is_dataclass(method) and "offset" in {field.name for field in fields(method)}


def takes_smoothing(method: Method) -> bool:
    """Whether the method ranks by scores, and leaves open how they are smoothed."""
    return isinstance(method, ScoreMethod) and method.smoothing == Latest()


def resolve_method(name: str, training: Training, rows: Sequence[int] | None = None) -> Method:
    """Return the registered method with the run's offset and smoothing.

    The smoothing counts where the method ranks by latest scores.  What the name itself says, as in
    ``el2n(offset=0.1)``, goes before what the run says.

    Args:
        name: the method, perhaps with settings.
        training: the run's offset and smoothing.
        rows: the row of each training example in its file, which says which scores of a score file are theirs.  None:
            all.

    Raises:
        UsageError: a score file is not one of these examples.
    """
    method, said = get_method(name), parse_method(name).settings
    if isinstance(method, Static) and rows is not None:
        method = _of_rows(method, name, rows)
    changes: dict[str, Any] = {}
    if takes_smoothing(method) and "smoothing" not in said:
        changes["smoothing"] = parse_smoothing(training.smoothing)
    if training.offset and takes_offset(method) and "offset" not in said:
        changes["offset"] = training.offset
        if isinstance(method, ScoreMethod):
            changes["offset_yields"] = False
    return replace(method, **changes) if changes else method  # type: ignore[type-var]


class RunPlan(NamedTuple):
    """What is known of a run before it begins: its method, and when it keeps how many of ``n`` examples."""

    method: Method
    phases: list[Phase]
    n: int

    @property
    def examples(self) -> int:
        """Training examples of the whole run."""
        return sum(phase.length for phase in self.phases)

    @property
    def passes(self) -> int:
        """Scoring passes over all examples, at most."""
        return 0 if self.method.observes else len(self.phases) - 1

    @property
    def mean_share(self) -> float | None:
        """The share kept, as the mean over the cycles.  None without a cycle."""
        shares = [phase.size / self.n for phase in self.phases if phase.index and not phase.final]
        return fmean(shares) if shares else None


def plan_of(spec: RunSpec, rows: Sequence[int], training: Training) -> RunPlan:
    """Return the plan of a run over the examples in ``rows`` of their file.

    Raises:
        UsageError: as `resolve_method`.
        ValueError: an option is out of range, or the method cannot keep so many.
    """
    method, n = resolve_method(spec.method, training, rows), len(rows)
    method.check_size(n)
    schedule = method.schedule(
        keep_fraction=spec.fraction,
        warmup_epochs=training.warmup_epochs,
        cycle_epochs=training.cycle_epochs,
        final_share=training.final_share,
    )
    phases = schedule.phases(n, training.epochs)
    for size in {schedule.constant_size(n) or n, *(phase.size for phase in phases)}:
        if size < n:
            method.check_keep(n, size)
    return RunPlan(method, phases, n)


def never_pruned(specs: Sequence[RunSpec], rows: Sequence[int], training: Training) -> list[str]:
    """Return the names of those runs that should prune and do not, because all their epochs are warm-up."""
    found = []
    for spec in specs:
        plan = plan_of(spec, rows, training)
        prunes = spec.keep_fraction < 1 and not plan.method.keeps_all
        if prunes and plan.examples >= training.epochs * len(rows):
            found.append(spec.name)
    return list(dict.fromkeys(found))


def plan_runs(
    methods: Sequence[str],
    keep_fractions: Sequence[str | float],
    seeds: Sequence[int],
    *,
    rows: Sequence[int],
    training: Training,
    compare: bool,
) -> list[RunSpec]:
    """Return the runs in the order they are made: seed by seed, ``full`` first.

    Without ``compare`` they are full and every method at every keep fraction.  With it ``short full`` and ``random``
    are added at every keep fraction.  ``short full`` is full, cut to the examples of a pruned run without final epochs
    of its method's own.

    Args:
        methods: names of methods, with settings or without.
        keep_fractions: numbers, or text as `fastprune.pruning.parse_keep_fraction` reads it.
        seeds: the seeds of the runs.
        rows: the row of each training example in its file.
        training: how all of them are trained.
        compare: whether to add the baselines.

    Raises:
        UsageError: a keep fraction or the schedule is out of range, a method is unknown, or a score file is not one of
            these examples.
    """
    wanted = list(dict.fromkeys((["random"] if compare else []) + [m for m in methods if m != "full"]))
    pruned: list[RunSpec] = []
    try:
        names = _display_names(wanted)
        for text in keep_fractions:
            asked = _asked(str(text), training)
            label = asked.keep or f"{asked.keep_fraction:.12g}"
            if compare:
                plan = plan_of(asked, rows, training)
                share = _shown_share(asked, plan)
                pruned.append(RunSpec(f"short full {label}", "full", share, 0, max_examples=plan.examples))
            for method in wanted:
                spec = replace(asked, name=f"{names[method]} {label}", method=method)
                pruned.append(replace(spec, keep_fraction=_shown_share(spec, plan_of(spec, rows, training))))
    except ValueError as error:
        raise UsageError(str(error)) from error
    runs = [RunSpec("full", "full", 1.0, 0), *dict.fromkeys(pruned)]
    return [replace(spec, seed=seed) for seed in dict.fromkeys(seeds) for spec in runs]


def _asked(text: str, training: Training) -> RunSpec:
    """Return a run of a method without settings that keeps what ``text`` says."""
    spelled = RunSpec("", "random", 1.0, 0, keep=text)
    share = spelled.fraction
    if not isinstance(share, float):
        return spelled
    if share + training.offset > 1.0:
        raise UsageError(
            f"--offset {training.offset:g} and --keep-fraction {share:g} exceed 1 together; lower one of them"
        )
    return replace(spelled, keep_fraction=share, keep=None)


def _shown_share(spec: RunSpec, plan: RunPlan) -> float:
    """Return the share that tables show: the constant itself, or the mean over the cycles."""
    return spec.keep_fraction if spec.keep is None or plan.mean_share is None else plan.mean_share


def _display_names(methods: Sequence[str]) -> dict[str, str]:
    """Return the name of each method in tables.  A score file has no folders there, unless two share a name."""
    parts = {method: parse_method(method) for method in methods}
    short = {
        method: method if parts.settings or not parts.positional else f"{parts.name}:{Path(parts.positional[0]).name}"
        for method, parts in parts.items()
    }
    counts = Counter(short.values())
    return {method: name if counts[name] == 1 else method for method, name in short.items()}


def _of_rows(method: Static, name: str, rows: Sequence[int]) -> Static:
    try:
        method = method.of_rows(rows)
    except ValueError as error:
        raise UsageError(f"--method {name}: {error}") from None
    if len(method.scores) != len(rows):
        raise UsageError(
            f"--method {name} holds scores of {len(method.scores)} examples, but {len(rows)} are trained on; "
            "score the same data, with the same --max-train"
        )
    return method
