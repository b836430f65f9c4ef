"""What one run is: every argument by name, and the key under which its result is found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from benchmarks.evidence.candidates import find_method
from benchmarks.evidence.model import lr_factor
from fastprune.app.finetune.spec import parse_smoothing
from fastprune.methods import ScoreMethod
from fastprune.pruning import Budget, DynamicPruner, KeepFraction, Latest, Method
from fastprune.pruning.keep import parse_keep_fraction
from fastprune.pruning.sampler import Arrange


@dataclass(frozen=True)
class Run:
    """The arguments of a run.

    A field's default never changes. A new field gets the default that older runs had. `Run.key` leaves out a field with
    its default, so older results keep their keys.

    Attributes:
        budget: Training examples of the whole run, warm-up included, as a share of full's.
        keep: The share kept after the warm-up, in place of a budget: "0.5", "linear:1.0:0.3" or "cosine:1.0:0.3".
        settings: Parameters of the method that differ from its own.
        smoothing: For methods that rank by their latest scores: "latest" or "ema".
        schedule: The learning rate. "linear" decays to 0 at the last step of the run, "constant" stays.
        split: What the figure is measured on: "test", or "validation" while a learning rate is chosen.
    """

    data: str
    method: str
    epochs: int
    lr: float
    seed: int = 0
    budget: float | None = None
    keep: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    smoothing: str = "latest"
    warmup_epochs: int = 1
    cycle_epochs: int = 1
    final_share: float | None = None
    schedule: str = "linear"
    noise: float = 0.0
    model: str = "minilm"
    layers: tuple[int, ...] = (0, 2, 4)
    batch_size: int = 32
    max_length: int = 128
    precision: str = "bf16"
    split: str = "test"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "settings", dict(self.settings))
        _one_of("schedule", self.schedule, ("linear", "constant"))
        _one_of("precision", self.precision, ("bf16", "fp32"))
        _one_of("split", self.split, ("test", "validation"))
        if self.budget is not None and self.keep is not None:
            raise ValueError(f"budget {self.budget} and keep {self.keep!r} exclude each other; give one of them")
        if self.budget is not None and not 0.0 < self.budget <= 1.0:
            raise ValueError(f"budget is a share of full's training examples, in (0, 1], got {self.budget!r}")

    @property
    def arguments(self) -> dict[str, Any]:
        """All fields, as JSON has them."""
        return json.loads(json.dumps(asdict(self)))

    @property
    def key(self) -> str:
        """16 hex digits, the same for equal arguments and different for others."""
        # A field with its default is left out.
        default = asdict(Run(data="", method="", epochs=0, lr=0.0))
        told = {name: value for name, value in asdict(self).items() if value != default[name]}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def group(self) -> str:
        """What two runs must share to be compared: everything except the method, what it keeps and its cycles."""
        return replace(
            self,
            method="",
            budget=None,
            keep=None,
            settings={},
            smoothing="latest",
            warmup_epochs=1,
            cycle_epochs=1,
            final_share=None,
        ).key

    @property
    def label(self) -> str:
        """The name in tables, without data and epochs: the method, its settings, and how much it reads."""
        name = "short full" if self.method == "full" and self.budget is not None else self.method
        parts = [name]
        if self.cycle_epochs != 1:
            parts.append(f"T={self.cycle_epochs}")
        if self.warmup_epochs != 1 and self.method not in UNSCORED:
            parts.append(f"τ={self.warmup_epochs}")
        parts += [f"{name}={value}" for name, value in sorted(self.settings.items())]
        if self.final_share is not None:
            parts.append(f"final={self.final_share:g}")
        if self.keep is not None:
            parts.append(f"keep {self.keep}")
        return " ".join(parts)


UNSCORED = ("full", "random", "rs2")
"""Methods that read no score."""


def run_of(arguments: Mapping[str, Any]) -> Run:
    """The run with these arguments. Unknown ones are refused."""
    known = {f.name for f in fields(Run)}
    if unknown := sorted(set(arguments) - known):
        raise ValueError(f"a run has no argument {unknown[0]!r}; it has {', '.join(sorted(known))}")
    return Run(**arguments)


def method_of(run: Run) -> Method:
    """The method with the run's settings."""
    method = find_method(run.method)
    changes = dict(run.settings)
    if isinstance(method, ScoreMethod) and method.smoothing == Latest():
        changes["smoothing"] = parse_smoothing(run.smoothing)
    return replace(method, **changes) if changes else method  # type: ignore[type-var]


def make_pruner(run: Run, n: int, *, fingerprint: str | None = None, arrange: Arrange | None = None) -> DynamicPruner:
    """The pruner of the run over ``n`` examples. `examples_of` says where a shortened full run ends."""
    method = method_of(run)
    keep: KeepFraction = 1.0
    if not method.keeps_all:
        keep = Budget(run.budget) if run.budget is not None else parse_keep_fraction(run.keep or "1.0")
    return DynamicPruner(
        n,
        method=method,
        keep_fraction=keep,
        warmup_epochs=run.warmup_epochs,
        cycle_epochs=run.cycle_epochs,
        final_share=run.final_share,
        seed=run.seed,
        fingerprint=fingerprint,
        arrange=arrange,
    )


def examples_of(run: Run, n: int) -> int:
    """Training examples of the whole run over ``n`` examples."""
    if run.method == "full":
        return round((run.budget or 1.0) * run.epochs * n)
    return make_pruner(run, n).total_examples(run.epochs)


def scored_of(run: Run, n: int) -> int:
    """Examples of the run's scoring passes over all data, as far as the method says beforehand."""
    pruner = make_pruner(run, n)
    if pruner.method.keeps_all:
        return 0
    cycles = [phase for phase in pruner.schedule.phases(pruner.n, run.epochs) if phase.index and not phase.final]
    due = [phase for phase in cycles if pruner.method.scoring_pass(pruner.history, phase.index) == "all"]
    once = isinstance(pruner.method, ScoreMethod) and pruner.method.source == "once"
    return n * min(len(due), 1 if once else len(due))


def steps_of(run: Run, pruner: DynamicPruner) -> int:
    """Optimizer steps of the whole run. A decaying learning rate ends on the last one."""
    if run.method == "full" and run.budget is not None:
        whole, rest = divmod(examples_of(run, pruner.n), pruner.n)
        return whole * -(-pruner.n // run.batch_size) + -(-rest // run.batch_size)
    return pruner.total_batches(run.epochs, run.batch_size)


def lr_share(run: Run, step: int, total: int, n: int) -> float:
    """What the learning rate is multiplied by in a step.

    A constant rate rises over the first fifth of an epoch on all ``n`` examples. Those are the same steps in every run,
    so a shorter run is a longer one cut off.
    """
    if run.schedule == "linear":
        return lr_factor(step, total)
    rise = max(1, n // (5 * run.batch_size))
    return min(1.0, (step + 1) / rise)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is one of {', '.join(allowed)}, got {value!r}")
