"""When a step may start, and how long it may run."""

from __future__ import annotations

from gpu.plan import CLOSING, Step


def allowance(step: Step, elapsed: float, deadline: float, patience: float = 1.0) -> float | None:
    """Seconds that the step may run; None if it would not end in time.

    Args:
        step: the step that is next.
        elapsed: seconds since the call began.
        deadline: seconds after which the call must have ended, its table printed.
        patience: how many times the step's limit it may take.
    """
    left = deadline - CLOSING - elapsed
    return None if left < step.least else min(step.limit * patience, left)
