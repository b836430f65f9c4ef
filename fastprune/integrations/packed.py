"""Rows that hold several texts: where each text begins, and which example of the data set it belongs to.

Two things are called packed.  A collate function may put the examples of a batch into one row.  Then each segment is an
example.  Or an example of the data set is itself a row of several texts.  Then its score is the mean over its texts.
Both may come together: one row of several packed examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastprune.scores.definition import accumulator_dtype
from fastprune.scores.metrics import TABLE

_OFFSETS = ("cu_seq_lens_q", "cu_seq_lens", "cu_seqlens")


def boundaries(batch: Mapping[str, Any], rows: int, tokens: int) -> Tensor | None:
    """Where segments begin, (rows, tokens) bool, from ``position_ids`` that restart or from cumulative lengths.

    None if the batch says nothing about it.
    """
    positions = batch.get("position_ids")
    if isinstance(positions, Tensor) and positions.shape[-1] == tokens and positions.ndim <= 2:
        positions = positions.reshape(-1, tokens).expand(rows, tokens)
        starts = torch.ones_like(positions, dtype=torch.bool)
        starts[:, 1:] = positions[:, 1:] != positions[:, :-1] + 1
        return starts
    offsets = next((batch[name] for name in _OFFSETS if isinstance(batch.get(name), Tensor)), None)
    if offsets is None or rows != 1:
        return None
    starts = torch.zeros(1, tokens, dtype=torch.bool, device=offsets.device)
    inside = offsets.flatten().to(torch.int64)
    starts[0, inside[inside < tokens]] = True
    starts[0, 0] = True
    return starts


@dataclass(frozen=True)
class Layout:
    """Which segment and which example each token of a batch belongs to.

    Attributes:
        segment: (R, T), the number of each token's segment.
        owner: (S,), the example of each segment, by its place in the batch.
        examples: of the batch.
        padding: how many segments at the end hold no text.
    """

    segment: Tensor
    owner: Tensor
    examples: int
    padding: int = 0

    @property
    def texts(self) -> int:
        """How many segments are texts."""
        return len(self.owner) - self.padding

    def per_token(self, values: Tensor) -> Tensor:
        """(R, T) of one value for each example."""
        return values[self.owner.to(values.device)][self.segment.to(values.device)]

    def sums_of_examples(self, values: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
        """The sum over each example's counted tokens, and the number of these.  Gradients flow to the values."""
        number = self.owner[self.segment].to(values.device).flatten()
        zeros = values.new_zeros(self.examples)
        sums = zeros.index_add(0, number, torch.where(counted, values, 0.0).flatten())
        return sums, zeros.to(torch.int64).index_add(0, number, counted.flatten().to(torch.int64))

    def of_segments(self, name: str, values: Tensor, counted: Tensor, reduce: str | None = None) -> Tensor:
        """(S,): the metric ``name`` of each segment, from that of its tokens, as `fastprune.Task` reduces them."""
        number, join = self.segment.to(values.device).flatten(), reduce or _join(name)
        wide = torch.where(counted, values, 0.0).flatten().to(accumulator_dtype(values.device))
        count = wide.new_zeros(len(self.owner)).index_add(0, number, counted.flatten().to(wide.dtype))
        if join in ("max", "all"):
            worst = torch.where(counted, values, -torch.inf if join == "max" else torch.inf).flatten().to(wide.dtype)
            start = torch.full_like(count, -torch.inf if join == "max" else torch.inf)
            found = start.scatter_reduce(0, number, worst, "amax" if join == "max" else "amin")
            return torch.where(count > 0, found, 0.0 if join == "max" else 1.0).float()
        terms = wide.square() if join == "norm" else wide
        sums = torch.zeros_like(count).index_add(0, number, terms)
        if join == "norm":
            return sums.sqrt().float()
        return (sums if join == "sum" else sums / count.clamp(min=1)).float()

    def of_examples(self, name: str, values: Tensor, counted: Tensor, reduce: str | None = None) -> Tensor:
        """(B,): the mean over each example's segments that have a label.  ``correct`` is the smallest."""
        each = self.of_segments(name, values, counted, reduce)
        owner, number = self.owner.to(each.device), self.segment.to(values.device).flatten()
        labelled = each.new_zeros(len(owner)).index_add(0, number, counted.flatten().to(each.dtype)) > 0
        if _join(name) == "all":
            ones = each.new_ones(self.examples)
            return ones.scatter_reduce(0, owner, torch.where(labelled, each, 1.0), "amin")
        sums = each.new_zeros(self.examples).index_add(0, owner, torch.where(labelled, each, 0.0))
        return sums / each.new_zeros(self.examples).index_add(0, owner, labelled.to(each.dtype)).clamp(min=1)


def layout_of(batch: Mapping[str, Any], counted: Tensor, examples: int, segments: Tensor | None = None) -> Layout:
    """The layout of a batch of so many examples.

    Args:
        batch: the fields that the collate function made.
        counted: (R, T), whether the token has a label.
        examples: of the batch.
        segments: (B,), how many texts each example holds.  None if it is one each, where one row holds them all.

    Raises:
        ValueError: the rows are not the examples, and their segments do not tell the examples.
    """
    rows, tokens = counted.shape
    starts = boundaries(batch, rows, tokens)
    if rows == examples:
        if starts is None:
            starts = torch.zeros(rows, tokens, dtype=torch.bool)
        starts[:, :1] = True
        segment = starts.flatten().cumsum(0).sub_(1).reshape(rows, tokens)
        return Layout(segment, starts.nonzero()[:, 0], examples)
    if rows != 1 or starts is None:
        raise ValueError(
            f"a batch of {examples} examples came as {rows} row{'s' * (rows != 1)} of {tokens} tokens without "
            "boundaries, so no score finds its example; let the collate function return position_ids that restart at "
            "each example or cu_seq_lens_q, or keep one row for each example"
        )
    segment = starts.flatten().cumsum(0).sub_(1).reshape(1, tokens)
    owner, padding = _owners(segment, counted, examples, segments)
    return Layout(segment, owner, examples, padding)


def _owners(segment: Tensor, counted: Tensor, examples: int, segments: Tensor | None) -> tuple[Tensor, int]:
    """The examples of the segments of one row, and how many segments after those of the last example are padding."""
    each = torch.ones(examples, dtype=torch.int64) if segments is None else segments.to("cpu", torch.int64)
    owner = torch.arange(examples).repeat_interleave(each)
    found = int(segment[0, -1]) + 1
    labelled = segment[counted.to(segment.device)]
    last = int(labelled.max()) + 1 if len(labelled) else 0
    if found < len(owner) or last > len(owner):
        raise ValueError(
            f"a batch of {examples} examples came as one row of {found} segments, but the examples hold {len(owner)}: "
            "the collate function drops examples or packs others; return position_ids that restart at each text of "
            "the data set"
        )
    padding = torch.full((found - len(owner),), examples - 1, dtype=torch.int64)
    return torch.cat([owner, padding]).to(segment.device), len(padding)


def _join(name: str) -> str:
    join = TABLE[name].join if name in TABLE else "mean"
    return "mean" if join == "loss" else join


def pad_left(labels: Tensor, tokens: int, value: int = -100) -> Tensor:
    """(R, ``tokens``) with ``value`` for the tokens that a model puts before a text, as prompt learning does."""
    return torch.nn.functional.pad(labels, (tokens - labels.shape[-1], 0), value=value)
