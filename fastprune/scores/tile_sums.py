"""Scores of rows whose logits come in tiles: some classes of every row at a time.

The sums of a row (see `fastprune.scores.definition`) are carried from tile to tile, and closed at the end. So a matrix
of logits never has to exist as a whole. The same sums, one set a process, are merged where the classes of a row are
spread over several processes.

A row's sums are seven numbers, over the classes other than the label y::

    z_y      0 as long as y was in no tile       m    the largest logit, or -inf
    S1, S2   of e^(z - m), and of its square     R    S1 - 1 without cancellation
    T        of e^(z - m) (m - z)                A    of all logits, the label's included (for label smoothing)

On the CPU csrc/scores/tile_sums.cpp computes them, and on a GPU `fastprune.scores.triton_tile_sums`. Here is the
specification, which other devices run.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

import fastprune._core as _core
from fastprune.platform.gpu import runs_triton
from fastprune.scores.cpu import DTYPES, metric_addresses
from fastprune.scores.definition import accumulator_dtype

SUMS = 7


class Wanted(NamedTuple):
    """What becomes of the sums.

    Attributes:
        metrics: The scores, of those that the kernels compute.
        loss: Whether the loss of each row is wanted, and what its gradient needs.
        label_smoothing: In [0, 1].
    """

    metrics: tuple[str, ...]
    loss: bool = False
    label_smoothing: float = 0.0

    @property
    def sought(self) -> int:
        """Which sums are needed, as `Sought` in csrc/scores/tile_sums.h."""
        return 2 if "entropy" in self.metrics else 1 if "el2n" in self.metrics else 0

    @property
    def totals(self) -> bool:
        """Whether the sum of all logits is needed."""
        return self.loss and self.label_smoothing > 0.0


class Closed(NamedTuple):
    """What the sums of n rows gave.

    Attributes:
        losses: (n,) fp32, or None.
        state: (3, n) fp32 for the gradient, or None: M, the largest of all logits, then 1 / Z with Z the sum of
            e^(z - M), then 1 - p_y.
        scores: (n,) fp32 by metric.
    """

    losses: Tensor | None
    state: Tensor | None
    scores: dict[str, Tensor]


def empty_sums(rows: int, device: torch.device) -> Tensor:
    """Room for the sums of rows, not yet begun: (rows, SUMS) float64."""
    return torch.empty(rows, SUMS, dtype=accumulator_dtype(device), device=device)


def add_tile(sums: Tensor, tile: Tensor, first_class: int, labels: Tensor, wanted: Wanted, *, begins: bool) -> None:
    """Add a tile of logits to the sums of its rows.

    Args:
        sums: IN and OUT (n, SUMS), what `empty_sums` gave.
        tile: IN (n, V) contiguous logits of the classes first_class, first_class + 1, ...
        first_class: The class of column 0.
        labels: IN (n,) int64 contiguous, among all classes. Every row counts.
        wanted: The same for all tiles of these rows.
        begins: Whether this is the first tile. Then nothing is read from sums.

    Cost: one read of the tile.
    """
    if tile.is_cpu:
        _core.add_tile(_tile(tile, first_class, labels), wanted.sought, wanted.totals, begins, sums.data_ptr())
    elif _runs_triton(tile):
        from fastprune.scores import triton_tile_sums

        triton_tile_sums.add_tile(sums, tile, first_class, labels, wanted, begins=begins)
    else:
        here = defined_sums(tile, first_class, labels)
        sums.copy_(here if begins else merged(torch.stack([sums, here])))


def close_sums(sums: Tensor, classes: int, wanted: Wanted) -> Closed:
    """The losses and scores of rows, from sums over all of their classes.

    Args:
        sums: IN (n, SUMS).
        classes: The number of all classes.
        wanted: As in `add_tile`.
    """
    if sums.is_cpu:
        return _closed_on_cpu(sums, classes, wanted)
    if runs_triton(sums):
        from fastprune.scores import triton_tile_sums

        return triton_tile_sums.close_sums(sums, classes, wanted)
    return defined_close(sums, classes, wanted)


def gradient_in_place(
    tile: Tensor,
    first_class: int,
    labels: Tensor,
    classes: int,
    state: Tensor,
    row_grad: Tensor,
    label_smoothing: float,
    scale: float,
    softcap: float,
) -> None:
    """Replace the logits of a tile by the gradient with respect to them.

    With z the logits, g = scale * row_grad and s the smoothing it is g ((1 - s) (p_i - [i = y]) + s (p_i - 1 / C)).
    With a softcap c the logits are z = c tanh(a / c). Then the gradient is with respect to a, the above times
    1 - (z / c)^2.

    Args:
        tile: IN and OUT (n, V) contiguous.
        first_class: As in `add_tile`.
        labels: As in `add_tile`.
        classes: The number of all classes, C.
        state: IN (3, n) fp32, what `close_sums` gave. Its last dimension is contiguous.
        row_grad: IN (n,) fp32 contiguous, the gradient with respect to each row's loss.
        label_smoothing: s.
        scale: A factor of all rows.
        softcap: c, or 0 for none.

    Cost: one read and one write of the tile.
    """
    if tile.is_cpu:
        _core.tile_gradient(
            _tile(tile, first_class, labels),
            classes,
            state.data_ptr(),
            state.stride(0),
            label_smoothing,
            row_grad.data_ptr(),
            scale,
            softcap,
        )
    elif _runs_triton(tile):
        from fastprune.scores import triton_tile_sums

        triton_tile_sums.gradient_in_place(
            tile, first_class, labels, classes, state, row_grad, label_smoothing, scale, softcap
        )
    else:
        tile.copy_(
            defined_gradient(tile, first_class, labels, classes, state, row_grad * scale, label_smoothing, softcap)
        )


def merged(parts: Tensor) -> Tensor:
    """The sums of rows whose classes lie in several parts.

    Args:
        parts: (parts, n, SUMS) float64. The order of the parts decides the last bits.

    Returns:
        (n, SUMS).
    """
    label, m, s1, s2, rest, spread, total = parts.unbind(-1)
    top = m.amax(0)
    leads = m.argmax(0, keepdim=True)
    below = torch.where(m == -torch.inf, torch.inf, top - m)
    scale = torch.exp(-below)
    is_leader = torch.zeros_like(m, dtype=torch.bool).scatter_(0, leads, value=True)
    moved = torch.where(below == torch.inf, 0.0, s1 * below)
    columns = (
        label.sum(0),
        top,
        (s1 * scale).sum(0),
        (s2 * scale * scale).sum(0),
        (torch.where(is_leader, rest, s1) * scale).sum(0),
        (torch.where(scale > 0, spread + moved, 0.0) * scale).sum(0),
        total.sum(0),
    )
    return torch.stack(columns, -1)


# --- the specification -----------------------------------------------------------------------------------------------


def defined_sums(tile: Tensor, first_class: int, labels: Tensor) -> Tensor:
    """The sums over the classes of one tile, (n, SUMS), in double precision."""
    z = tile.detach().to(accumulator_dtype(tile.device))
    place = labels - first_class
    here = (place >= 0) & (place < z.shape[-1])
    index = torch.where(here, place, 0).unsqueeze(-1)
    at_label = torch.where(here, z.gather(-1, index).squeeze(-1), 0.0)
    own = z.gather(-1, index)
    others = z.scatter(-1, index, torch.where(here.unsqueeze(-1), -torch.inf, own))
    m = torch.where(others.isnan(), -torch.inf, others).amax(-1)
    top = torch.where(m == -torch.inf, 0.0, m).unsqueeze(-1)
    e = torch.exp(others - top)
    one = others.argmax(-1, keepdim=True)
    rest = e.scatter(-1, one, 0.0).sum(-1)
    spread = torch.where(e > 0, e * (top - others), 0.0).sum(-1)
    return torch.stack([at_label, m, e.sum(-1), e.square().sum(-1), rest, spread, z.sum(-1)], -1)


def defined_close(sums: Tensor, classes: int, wanted: Wanted) -> Closed:
    """What `close_sums` gives, in double precision."""
    z_y, m, s1, s2, rest, spread, total = sums.unbind(-1)
    gap = z_y - m
    leads, alone = gap >= 0, m == -torch.inf
    w, p = torch.exp(-gap.clamp(min=0)), torch.exp(gap.clamp(max=0))
    others = w * s1
    z = others + p
    log_z = torch.log1p(torch.where(leads, others, (s1 - 1) + p)).masked_fill(alone, 0.0)
    hard = log_z + (-gap).clamp(min=0)
    undefined = s1.isnan() | gap.isnan() | (z_y == torch.inf)
    top = torch.maximum(m, z_y)

    def entropy() -> Tensor:
        sure = torch.where(w > 0, w * (s1 * gap + spread), 0.0)
        unsure = spread - torch.where(p > 0, p * gap, 0.0)
        return torch.log1p(torch.where(leads, others, rest + p)) + torch.where(leads, sure, unsure) / z

    formulas = {
        "el2n": lambda: w * torch.sqrt(s1.square() + s2) / z,
        "loss": lambda: hard,
        "confidence": lambda: p / z,
        "margin": lambda: gap,
        "entropy": entropy,
        "correct": lambda: leads.to(z.dtype),
    }
    scores = {name: formulas[name]().masked_fill(undefined, torch.nan).to(torch.float32) for name in wanted.metrics}
    if not wanted.loss:
        return Closed(None, None, scores)
    s = wanted.label_smoothing
    losses = hard if s == 0 else torch.where(torch.tensor(s == 1.0, device=hard.device), 0.0, (1 - s) * hard)
    if s > 0:
        losses = losses + s * (log_z + (top - total / classes))
    state = torch.stack([top, 1 / z, others / z]).masked_fill(undefined, torch.nan)
    return Closed(losses.masked_fill(undefined, torch.nan).to(torch.float32), state.to(torch.float32), scores)


def defined_gradient(
    tile: Tensor,
    first_class: int,
    labels: Tensor,
    classes: int,
    state: Tensor,
    row_grad: Tensor,
    label_smoothing: float,
    softcap: float,
) -> Tensor:
    """What `gradient_in_place` writes, in double precision and as a tensor of its own."""
    z = tile.detach().to(accumulator_dtype(tile.device))
    largest, scale, doubt = state.to(z.dtype).unsqueeze(-1)
    p = torch.exp(z - largest) * scale
    place = (labels - first_class).unsqueeze(-1)
    is_label = place == torch.arange(z.shape[-1], device=z.device)
    s = label_smoothing
    of_others = p - s / classes
    of_label = -(1 - s) * doubt + s * (1 - doubt) - s / classes
    capped = 1 - (z / softcap).square() if softcap else 1.0
    return row_grad.to(z.dtype).unsqueeze(-1) * torch.where(is_label, of_label, of_others) * capped


# --- the CPU's kernels -----------------------------------------------------------------------------------------------


def _runs_triton(tile: Tensor) -> bool:
    return runs_triton(tile) and tile.dtype != torch.float64


def _tile(tile: Tensor, first_class: int, labels: Tensor) -> tuple[object, ...]:
    """A tile as csrc/bindings.cpp takes it, and the tensors that it points into."""
    rows, classes = tile.shape
    where = (tile.data_ptr(), DTYPES[tile.dtype], rows, classes, first_class)
    return (*where, labels.data_ptr(), torch.get_num_threads(), tile, labels)


def _closed_on_cpu(sums: Tensor, classes: int, wanted: Wanted) -> Closed:
    rows = len(sums)
    scores = {name: torch.empty(rows, dtype=torch.float32) for name in wanted.metrics}
    losses = torch.empty(rows, dtype=torch.float32) if wanted.loss else None
    state = torch.empty(3, rows, dtype=torch.float32) if wanted.loss else None
    _core.close_sums(
        sums.data_ptr(),
        rows,
        classes,
        torch.get_num_threads(),
        metric_addresses(scores),
        0 if losses is None else losses.data_ptr(),
        0 if state is None else state.data_ptr(),
        wanted.label_smoothing,
    )
    return Closed(losses, state, scores)
