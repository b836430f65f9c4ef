"""When a step may start, and how long it may run."""

from __future__ import annotations

from gpu.plan import CLOSING, Step


def allowance(step: Step, elapsed: float, deadline: float) -> float | None:
    """Seconds that the step may run; None if it would not end in time.

    Args:
        step: the step that is next.
        elapsed: seconds since the call began.
        deadline: seconds after which the call must have ended, its table printed.
    """
    left = deadline - CLOSING - elapsed
    return None if left < step.least else min(step.limit, left)
