"""Which run comes next, and whether another worker is worth it: pure functions and small state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.evidence.plan import Planned
from benchmarks.evidence.results import finished

GROWTH = 1.1
"""More workers are worth it while they make the examples per second grow by a tenth."""


def unfinished(
    planned: Sequence[Planned], own: Iterable[Mapping[str, Any]], others: Iterable[Mapping[str, Any]] = ()
) -> list[Planned]:
    """The runs that this machine kind has no current line of, the most useful first.

    Runs are compared within one machine kind only. So a group that another kind has begun, and this one has not, comes
    last. A lent GPU then takes the seeds that nobody has.

    Args:
        planned: The runs of the plan.
        own: The lines of this machine kind.
        others: The lines of all other kinds.
    """
    own = list(own)
    done = finished(own)
    own_groups = {line["group"] for line in own if line["key"] in done}
    begun_elsewhere = {line["group"] for line in others} - own_groups
    left = [p for p in planned if p.run.key not in done]
    return sorted(left, key=lambda p: (p.run.group in begun_elsewhere, p.worth))


def choose(left: Sequence[Planned], seconds: Mapping[str, float], remaining: float) -> Planned | None:
    """The first run that fits into the remaining seconds, or None if none does.

    Args:
        left: The runs to choose from, in order.
        seconds: The expected seconds of each run, by key. A run without an entry fits.
        remaining: The remaining seconds.
    """
    return next((p for p in left if seconds.get(p.run.key, 0.0) <= remaining), None)


class Growth:
    """How many workers to have. The number grows each time the examples per second have grown enough.

    It grows by one at first, and by half from two on, because a lent GPU is gone in minutes.

    Args:
        most: The largest number of workers.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.workers = 1
        self._rate: float | None = None
        self._settled = most <= 1

    def measured(self, rate: float) -> int:
        """Record the examples per second of the present workers. Returns how many workers there should be now."""
        if self._settled:
            return self.workers
        if self._rate is not None and rate < GROWTH * self._rate:
            self._settled = True
            return self.workers
        self._rate = rate
        self.workers = min(self.workers + max(1, self.workers // 2), self.most)
        # At the largest allowed number the rate need not be measured.
        self._settled = self.workers == self.most
        return self.workers
