"""Counts wall-clock and CPU seconds of the parts of a run, without evaluation and checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch


@dataclass
class Clock:
    """Seconds by part (``train``, ``score``, ``select``), and CPU seconds over all of them.

    A part within a part stops the outer one.  The part None is not counted.
    """

    seconds: dict[str, float] = field(default_factory=lambda: {"train": 0.0, "score": 0.0, "select": 0.0})
    cpu_seconds: float = 0.0

    def __post_init__(self) -> None:
        self._parts: list[str | None] = []
        self._since = (0.0, 0.0)

    def start(self, name: str | None) -> None:
        """Begin part ``name``."""
        self._book()
        self._parts.append(name)

    def stop(self) -> None:
        """End the part that began last.  Without one nothing happens."""
        self._book()
        self._parts = self._parts[:-1]

    @contextmanager
    def part(self, name: str | None) -> Iterator[None]:
        """Count the body as part ``name``."""
        self.start(name)
        try:
            yield
        finally:
            self.stop()

    @property
    def total(self) -> float:
        """Seconds of all parts together."""
        return sum(self.seconds.values())

    def _book(self) -> None:
        current = self._parts[-1] if self._parts else None
        if current is not None and torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter(), time.process_time()
        if current is not None:
            self.seconds[current] += now[0] - self._since[0]
            self.cpu_seconds += now[1] - self._since[1]
        self._since = now
