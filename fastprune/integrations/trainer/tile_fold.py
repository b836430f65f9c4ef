"""Row scores from logits that come in tiles of classes, and are never there as a whole.

A row's label is left out of its sums inside the tile that holds it.  So no number is subtracted from one close to it,
and the scores are as exact as those of whole rows (`fastprune.scores.definition` has the formulas).  Of the other
classes a row keeps four numbers, and tiles are merged as online softmax merges them::

    m = max z_i,   r = sum of e^(z_i - m) without its largest term,   s2 = sum of e^(2 (z_i - m)),
    t = sum of e^(z_i - m) (m - z_i)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fastprune.scores.api import score
from fastprune.scores.definition import accumulator_dtype
from fastprune.scores.metrics import KERNEL_METRICS

_CHUNK = 1 << 19
"""Logits that are folded at once.  They stay in the cache of one core."""


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

    def logits(self, rows: slice = slice(None)) -> Tensor:
        """The logits of these rows.  It is the product itself, where nothing is to be done."""
        z = self.product[rows]
        if (self.logit_scale, self.softcap, self.inverse_temperature) == (1.0, None, 1.0):
            return z
        z = z.float() * self.logit_scale
        if self.softcap is not None:
            z = self.softcap * torch.tanh(z / self.softcap)
        return z * self.inverse_temperature


class Sums(NamedTuple):
    """What rows keep of the tiles so far.  All fields are (N,).  ``label`` is the label's logit."""

    m: Tensor
    r: Tensor
    s2: Tensor
    t: Tensor
    label: Tensor


def tile_sums(tile: Tile) -> Sums:
    """The sums of one tile, in fp32.

    A tile without other classes than the label has m = -inf and r = -1, so that the number of largest terms, 1 + r, is
    0.  ``label`` is -inf outside of the label's tile.
    """
    step = max(1, _CHUNK // max(1, tile.product.shape[1]))
    parts = [_sums_of_rows(tile, slice(i, i + step)) for i in range(0, len(tile.product), step)]
    return Sums(*map(torch.cat, zip(*parts, strict=True)))


def _sums_of_rows(tile: Tile, rows: slice) -> Sums:
    z = tile.logits(rows).to(torch.float32, copy=True)
    local = tile.targets[rows].to(torch.int64) - tile.start
    here = (local >= 0) & (local < z.shape[1])
    index = local.clamp(0, z.shape[1] - 1).unsqueeze(-1)
    own = z.gather(-1, index)
    z.scatter_(-1, index, torch.where(here.unsqueeze(-1), -torch.inf, own))
    m, largest = z.max(-1)
    empty = m == -torch.inf
    below = z.sub_(torch.where(empty, 0.0, m).unsqueeze(-1)).clamp_(min=torch.finfo(torch.float32).min)
    e = below.exp()
    s2 = torch.linalg.vector_norm(e, dim=-1).square()
    t = -torch.linalg.vecdot(e, below)
    r = e.scatter_(-1, largest.unsqueeze(-1), 0.0).sum(-1)
    return Sums(m, torch.where(empty, -1.0, r), s2, t, torch.where(here, own.squeeze(-1), -torch.inf))


def merged(a: Sums, b: Sums) -> Sums:
    """The sums over the classes of both."""
    m = torch.maximum(a.m, b.m)
    parts = [_relative_to(m, part) for part in (a, b)]
    first = a.m >= b.m
    r = torch.where(first, a.r + parts[1].r, b.r + parts[0].r)
    r = torch.where(m == -torch.inf, -1.0, r)
    t = parts[0].t + parts[1].t
    return Sums(m, r, parts[0].s2 + parts[1].s2, t, torch.maximum(a.label, b.label))


def _relative_to(m: Tensor, part: Sums) -> Sums:
    """The sums with another m.  ``r`` then counts all terms, the largest one too."""
    drop = torch.where(part.m == -torch.inf, 0.0, m - part.m)
    factor, terms = torch.exp(-drop), 1 + part.r
    return Sums(m, factor * terms, factor.square() * part.s2, factor * (part.t + terms * drop), part.label)


def scores_of_sums(sums: Sums, metrics: Sequence[str]) -> dict[str, Tensor]:
    """The metrics of rows whose classes have all been seen.  They are fp32, (N,)."""
    m, r, s2, t, label = (part.to(accumulator_dtype(part.device)) for part in sums)
    alone, s1 = m == -torch.inf, 1 + r
    top = torch.maximum(m, label)
    w, p = torch.exp(m - top), torch.exp(label - top)
    right = label >= m
    rest = torch.where(right, w * s1, r + p)
    found = {
        "el2n": lambda: (w * torch.sqrt(s1.square() + s2) / (w * s1 + p), 0.0),
        "loss": lambda: ((m - label).clamp(min=0) + torch.log1p(rest), 0.0),
        "confidence": lambda: (p / (w * s1 + p), 1.0),
        "margin": lambda: (label - m, torch.inf),
        "entropy": lambda: (torch.log1p(rest) + _entropy_terms(right, w, p, s1, t, label - m) / (1 + rest), 0.0),
        "correct": lambda: (right.to(m.dtype), 1.0),
    }
    undefined = ~top.isfinite()
    scores = {}
    for name in metrics:
        value, if_alone = found[name]()
        scores[name] = value.masked_fill(alone, if_alone).masked_fill(undefined, torch.nan).to(torch.float32)
    return scores


def _entropy_terms(right: Tensor, w: Tensor, p: Tensor, s1: Tensor, t: Tensor, margin: Tensor) -> Tensor:
    """The sum of e^(z_i - M) (M - z_i) over all classes, where M is the largest logit."""
    below_label = w * (t + s1 * margin)
    with_label = t + torch.where(p > 0, p * -margin, 0.0)
    return torch.where(right, below_label, with_label)


class TileScores:
    """Scores of the rows of one call of a head that works tile by tile: all classes of some rows, then other rows.

    Args:
        metrics: names of `KERNEL_METRICS`.
        classes: how many the head has.
    """

    def __init__(self, metrics: Sequence[str], classes: int) -> None:
        unknown = [name for name in metrics if name not in KERNEL_METRICS]
        if unknown:
            raise ValueError(
                f"{', '.join(unknown)} cannot be computed from tiles of logits; choose from {', '.join(KERNEL_METRICS)}"
            )
        self.metrics, self.classes = tuple(metrics), classes
        self._done: list[dict[str, Tensor]] = []
        self._open: Sums | None = None

    @torch.no_grad()
    def add(self, tile: Tile) -> None:
        """Take in the next tile."""
        if tile.product.shape[1] == self.classes:
            # The kernel reads a whole row once.
            self._done.append(score(tile.logits(), tile.targets, self.metrics))
            return
        sums = tile_sums(tile)
        self._open = sums if self._open is None else merged(self._open, sums)
        if tile.start + tile.product.shape[1] >= self.classes:
            self._done.append(scores_of_sums(self._open, self.metrics))
            self._open = None

    def rows(self) -> dict[str, Tensor]:
        """The scores of all rows so far, (N,) for each metric."""
        return {name: torch.cat([part[name] for part in self._done]) for name in self.metrics} if self._done else {}
