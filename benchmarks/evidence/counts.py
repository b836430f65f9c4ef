"""What a run cost. The counts are enough to compute its time on another machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

PARTS = ("train", "score", "select")


@dataclass
class Work:
    """Batches of one kind.

    Attributes:
        batches: The number of batches.
        examples: The number of examples in them.
        tokens: The tokens of the texts, which are the ones of the attention masks.
        padded_tokens: All tokens that the model computes, rows times width.
        widths: {width of a batch: [batches, examples]}.
    """

    batches: int = 0
    examples: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    widths: dict[int, list[int]] = field(default_factory=dict)

    def add(self, lengths: Tensor) -> None:
        """Count a batch of texts whose numbers of tokens are ``lengths``."""
        rows, width = len(lengths), int(lengths.max())
        self.batches += 1
        self.examples += rows
        self.tokens += int(lengths.sum())
        self.padded_tokens += rows * width
        cell = self.widths.setdefault(width, [0, 0])
        cell[0] += 1
        cell[1] += rows


@dataclass
class Counts:
    """The work of training (forward and backward) and of scoring passes (forward), and the CPU seconds by part.

    Evaluation and saving are not counted.
    """

    train: Work = field(default_factory=Work)
    score: Work = field(default_factory=Work)
    cpu_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))

    clock = staticmethod(time.process_time)
    """What the seconds are read from. On an idle machine a wall clock may replace it."""

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the body's seconds to those of a part."""
        start = self.clock()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.cpu_seconds[name] += self.clock() - start

    def as_json(self) -> dict[str, Any]:
        """Plain numbers. Widths are text, because JSON has no other keys."""
        rounded = {name: round(seconds, 3) for name, seconds in self.cpu_seconds.items()}
        return {"train": _plain(self.train), "score": _plain(self.score), "cpu_seconds": rounded}


def _plain(work: Work) -> dict[str, Any]:
    widths = {str(width): work.widths[width] for width in sorted(work.widths)}
    return {**vars(work), "widths": widths}
