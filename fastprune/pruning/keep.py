"""How much to keep: a constant, a ramp, a function of progress, or what a budget of examples allows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from numbers import Real
from typing import Literal


@dataclass(frozen=True)
class LinearRamp:
    """A keep_fraction from ``start`` in the first cycle to ``end`` in the last, in equal steps.

    Example:
        >>> from fastprune import Schedule
        >>> schedule = Schedule(LinearRamp(1.0, 0.4), warmup_epochs=1)
        >>> [phase.size for phase in schedule.phases(100, epochs=5)]  # the warm-up and four cycles
        [100, 100, 80, 60, 40]
    """

    start: float
    end: float

    def __post_init__(self) -> None:
        _check_fields(self)

    def __call__(self, progress: float) -> float:
        """The keep_fraction at ``progress``, which is 0 in the first cycle and 1 in the last."""
        return self.start + (self.end - self.start) * progress


@dataclass(frozen=True)
class CosineRamp:
    """A keep_fraction from ``start`` in the first cycle to ``end`` in the last, along half a cosine.

    Example:
        >>> from fastprune import Schedule
        >>> schedule = Schedule(CosineRamp(1.0, 0.4), warmup_epochs=1)
        >>> [phase.size for phase in schedule.phases(100, epochs=5)]  # the warm-up and four cycles
        [100, 100, 85, 55, 40]
    """

    start: float
    end: float

    def __post_init__(self) -> None:
        _check_fields(self)

    def __call__(self, progress: float) -> float:
        """The keep_fraction at ``progress``, which is 0 in the first cycle and 1 in the last."""
        return self.end + (self.start - self.end) * (1.0 + math.cos(math.pi * progress)) / 2.0


@dataclass(frozen=True, repr=False)
class Budget:
    """Choose the keep_fraction so that the run reads at most ``share`` of the examples of a full run.

    Epochs on all examples count, too, so they leave less for the cycles.  All cycles keep the same number, at least
    one.  A Trainer reads in chunks and may exceed the budget, by 2 % or by less than a step a phase.

    With ``of="tokens"`` the run reads that share of the padded tokens as well.  The examples are as many as without, so
    steps and learning rate are known before the first step.  Each cycle keeps as many texts of each length as the data
    have, in proportion, and the method chooses among texts of like length.  Without it a method that prefers long texts
    saves less time than examples.  It needs the lengths, see `DynamicPruner`.

    Example:
        >>> from fastprune import Schedule
        >>> phases = Schedule(Budget(0.6), warmup_epochs=1).phases(100, epochs=5)
        >>> [phase.size for phase in phases], sum(phase.length for phase in phases)  # 60 % of 5 * 100
        ([100, 50, 50, 50, 50], 300)
    """

    share: float
    of: Literal["examples", "tokens"] = "examples"

    def __post_init__(self) -> None:
        object.__setattr__(self, "share", check_fraction(self.share, "share"))
        if self.of not in ("examples", "tokens"):
            raise ValueError(f"of is what the budget counts, 'examples' or 'tokens', got {self.of!r}")

    def __repr__(self) -> str:
        # That of a budget of examples is as it was before there was a choice, because checkpoints compare it.
        return f"Budget(share={self.share!r}{'' if self.of == 'examples' else f', of={self.of!r}'})"

    def fraction(self, epochs: int, full_epochs: int) -> float:
        """The constant share to keep in a run of ``epochs``, ``full_epochs`` of which are on all examples.

        Raises:
            ValueError: the full epochs alone spend the budget.
        """
        cycles = epochs - full_epochs
        left = round(self.share * epochs - full_epochs, 9)
        if left < 0 or (left == 0 and cycles):
            raise ValueError(
                f"a budget of {self.share:g} of {epochs} epochs is spent by the {full_epochs} epochs on all examples; "
                f"raise it above {full_epochs / epochs:.3g}, or lower warmup_epochs or final_share"
            )
        return min(1.0, left / cycles) if cycles else 1.0


KeepFraction = float | LinearRamp | CosineRamp | Budget | Callable[[float], float]
"""What ``keep_fraction`` may be.  A function is given the progress: 0 in the first cycle, 1 in the last."""


def check_fraction(value: object, name: str) -> float:
    """Return ``value`` as a float if it is a share in (0, 1].

    Raises:
        ValueError: it is not.  The message names the argument.

    Example:
        >>> check_fraction(0.5, "keep_fraction")
        0.5
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not 0.0 < float(value) <= 1.0:
        raise ValueError(
            f"{name} is the share of examples kept and must be in (0, 1], got {value!r}; "
            "to drop 80 % of the data pass 0.2"
        )
    return float(value)


def check_keep_fraction(keep: KeepFraction) -> KeepFraction:
    """Return ``keep``, with a number as a float.  A function is tried at 17 points of progress.

    Raises:
        ValueError: its type is none of `KeepFraction`, or it is not a share in (0, 1] at some point of progress.
    """
    if isinstance(keep, Budget):
        return keep
    if not callable(keep):
        return check_fraction(keep, "keep_fraction")
    _sampled(keep)
    return keep


def describe(keep: KeepFraction) -> float | str:
    """A value for comparing two runs.  It is equal if both keep the same.  A function is described by its values."""
    if isinstance(keep, Real):
        return float(keep)
    if is_dataclass(keep):
        return repr(keep)
    assert callable(keep)
    return f"function({', '.join(f'{value:.6g}' for value in _sampled(keep))})"


def parse_keep_fraction(text: str) -> KeepFraction:
    """Read ``0.5``, ``linear:1.0:0.3``, ``cosine:1.0:0.3``, ``budget:0.6`` or ``budget:0.6:tokens``.

    Raises:
        ValueError: the text is none of these, or a number is out of range.

    Example:
        >>> parse_keep_fraction("linear:1.0:0.3")
        LinearRamp(start=1.0, end=0.3)
    """
    kind, *numbers = text.split(":")
    of_tokens = kind == "budget" and len(numbers) == 2 and numbers[1] == "tokens"
    numbers = numbers[:1] if of_tokens else numbers
    try:
        values = [float(number) for number in numbers] if numbers else [float(kind)]
    except ValueError:
        values = []
    if not numbers and len(values) == 1:
        return check_fraction(values[0], "keep_fraction")
    if kind in ("linear", "cosine") and len(values) == 2:
        return (LinearRamp if kind == "linear" else CosineRamp)(*values)
    if kind == "budget" and len(values) == 1:
        return Budget(values[0], "tokens" if of_tokens else "examples")
    raise ValueError(
        f"keep_fraction is a number in (0, 1], linear:A:B, cosine:A:B, budget:X or budget:X:tokens, got {text!r}"
    )


def counts_tokens(keep: KeepFraction) -> bool:
    """Whether the lengths of the examples must be known."""
    return isinstance(keep, Budget) and keep.of == "tokens"


def _sampled(keep: Callable[[float], float]) -> list[float]:
    """The shares at 17 points of progress, each checked."""
    return [check_fraction(keep(i / 16), f"keep_fraction({i / 16:g})") for i in range(17)]


def _check_fields(keep: LinearRamp | CosineRamp) -> None:
    """Check that each field is a share.  Make it a float, so that equal settings have equal texts."""
    for f in fields(keep):
        object.__setattr__(keep, f.name, check_fraction(getattr(keep, f.name), f.name))
