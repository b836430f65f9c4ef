"""Wall-clock and CPU seconds of the parts of a run; evaluation and checkpoints are not counted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch


@dataclass
class Clock:
    """Seconds by part (``train``, ``score``, ``select``) and CPU seconds over all of them."""

    seconds: dict[str, float] = field(default_factory=lambda: {"train": 0.0, "score": 0.0, "select": 0.0})
    cpu_seconds: float = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the body as part ``name``."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds[name] += time.perf_counter() - wall
        self.cpu_seconds += time.process_time() - cpu

    @property
    def total(self) -> float:
        """Seconds of all parts together."""
        return sum(self.seconds.values())
