"""Which run comes next, and whether another worker is worth it: pure functions and small state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.evidence.plan import Planned
from benchmarks.evidence.results import finished

GROWTH = 1.1
"""More workers are worth it while they make the examples a second grow by a tenth."""


def unfinished(
    planned: Sequence[Planned], own: Iterable[Mapping[str, Any]], others: Iterable[Mapping[str, Any]] = ()
) -> list[Planned]:
    """The runs that this machine kind has no current line of, the most useful first.

    Runs are compared within one machine kind only.  So a group of runs that another kind has begun, and this one has
    not, comes last: a lent GPU takes the seeds that nobody has.

    Args:
        own: the lines of this machine kind.
        others: those of all others.
    """
    own = list(own)
    done = finished(own)
    own_groups = {line["group"] for line in own if line["key"] in done}
    begun_elsewhere = {line["group"] for line in others} - own_groups
    left = [p for p in planned if p.run.key not in done]
    return sorted(left, key=lambda p: (p.run.group in begun_elsewhere, p.worth))


def choose(left: Sequence[Planned], seconds: Mapping[str, float], remaining: float) -> Planned | None:
    """The first run that fits into the remaining seconds; None if none does.

    Args:
        seconds: how long each run is expected to take, by key; one that is missing fits.
    """
    return next((p for p in left if seconds.get(p.run.key, 0.0) <= remaining), None)


class Growth:
    """How many workers to have: more each time the examples a second have grown enough.

    One more at first, half as many again from two on: a lent GPU is gone in minutes.

    Args:
        most: workers at most.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.workers = 1
        self._rate: float | None = None
        self._settled = most <= 1

    def measured(self, rate: float) -> int:
        """Take note of the examples a second of the present workers; how many there should be now."""
        if self._settled:
            return self.workers
        if self._rate is not None and rate < GROWTH * self._rate:
            self._settled = True
            return self.workers
        self._rate = rate
        self.workers = min(self.workers + max(1, self.workers // 2), self.most)
        # The rate of the largest number allowed need not be measured.
        self._settled = self.workers == self.most
        return self.workers
