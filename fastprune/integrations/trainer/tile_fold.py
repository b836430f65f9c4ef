"""Row scores from the tiles of logits that another library's head makes, and never keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastprune.integrations.logit_transform import Transform
from fastprune.scores.metrics import KERNEL_METRICS
from fastprune.scores.tile_sums import Wanted, add_tile, close_sums, empty_sums

_CHUNK = {"cpu": 1 << 19}
"""Logits that are folded at once, by kind of device.  On the CPU they stay in the cache of one core."""
_CHUNK_ELSEWHERE = 1 << 26


class Tile(NamedTuple):
    """A tile of the head's product with the hidden states.

    Attributes:
        product: (N, K), of K classes that follow one another.
        targets: (N,), the labels as numbers of classes.
        start: the number of the first class.
        logit_scale: multiplies the product.
        softcap: c in c * tanh(z / c), or None.
        inverse_temperature: multiplies what the softcap gives.
    """

    product: Tensor
    targets: Tensor
    start: int
    logit_scale: float = 1.0
    softcap: float | None = None
    inverse_temperature: float = 1.0

    def logits(self, rows: slice) -> Tensor:
        """The logits of these rows.  They are the product itself, where nothing is to be done."""
        z = self.product[rows]
        if (self.logit_scale, self.softcap, self.inverse_temperature) != (1.0, None, 1.0):
            z = Transform(self.softcap, self.logit_scale)(z.float()) * self.inverse_temperature
        return z.contiguous()


class TileScores:
    """Scores of the rows of one call of a head that works tile by tile: all classes of some rows, then other rows.

    Args:
        metrics: names of `KERNEL_METRICS`.
        classes: how many the head has.

    Cost: one read of each tile, and one exponential a logit.  56 bytes a row.
    """

    def __init__(self, metrics: Sequence[str], classes: int) -> None:
        unknown = [name for name in metrics if name not in KERNEL_METRICS]
        if unknown:
            raise ValueError(
                f"{', '.join(unknown)} cannot be computed from tiles of logits; choose from {', '.join(KERNEL_METRICS)}"
            )
        self.classes, self._wanted = classes, Wanted(tuple(metrics))
        self._done: list[dict[str, Tensor]] = []
        self._sums: Tensor | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """Their names."""
        return self._wanted.metrics

    @torch.no_grad()
    def add(self, tile: Tile) -> None:
        """Take in the next tile."""
        rows, columns = tile.product.shape
        if tile.start == 0:
            self._sums = empty_sums(rows, tile.product.device)
        assert self._sums is not None
        targets = tile.targets.to(torch.int64).contiguous()
        step = max(1, _CHUNK.get(tile.product.device.type, _CHUNK_ELSEWHERE) // columns)
        for i in range(0, rows, step):
            part = slice(i, i + step)
            sums, begins = self._sums[part], tile.start == 0
            add_tile(sums, tile.logits(part), tile.start, targets[part], self._wanted, begins=begins)
        if tile.start + columns >= self.classes:
            self._done.append(close_sums(self._sums, self.classes, self._wanted).scores)
            self._sums = None

    def rows(self) -> dict[str, Tensor]:
        """The scores of all rows so far, (N,) for each metric."""
        return {name: torch.cat([part[name] for part in self._done]) for name in self.metrics} if self._done else {}
