"""Rows that go through as tiles, for every implementation of the sums of tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import row_score_cases as cases
import torch
import torch.nn.functional as F
from torch import Tensor

from fastprune.scores import definition, tile_sums
from fastprune.scores.definition import shifted_labels
from fastprune.scores.tile_sums import Closed, Wanted

Add = Callable[..., None]
Close = Callable[[Tensor, int, Wanted], Closed]


def closed_of(logits: Tensor, labels: Tensor, sizes: Sequence[int], wanted: Wanted, add: Add, close: Close) -> Closed:
    """What rows give whose classes come in tiles of these sizes. All memory holds NaN before it is written."""
    sums = torch.full_like(tile_sums.empty_sums(len(logits), logits.device), torch.nan)
    first = 0
    for size in sizes:
        tile = logits[:, first : first + size].contiguous()
        add(sums, tile, first, labels, wanted, begins=first == 0)
        first += size
    assert first == logits.shape[1]
    return close(sums, logits.shape[1], wanted)


def cut(classes: int) -> list[int]:
    """Three uneven tiles, or fewer."""
    sizes = [classes // 3, classes // 2, classes - classes // 3 - classes // 2]
    return [size for size in sizes if size]


def by_tiles(add: Add, close: Close) -> cases.Kernel:
    """A kernel of the row scores that goes by tiles."""

    def run(
        logits: Tensor, labels: Tensor, metrics: tuple[str, ...], ignore_index: int, shift: int
    ) -> dict[str, Tensor]:
        flat, moved = logits.reshape(-1, logits.shape[-1]), shifted_labels(labels, ignore_index, shift).reshape(-1)
        closed = closed_of(flat, moved.clamp(min=0), cut(flat.shape[1]), Wanted(metrics), add, close)
        return {
            name: s.masked_fill(moved == ignore_index, 0.0).reshape(labels.shape) for name, s in closed.scores.items()
        }

    return run


def by_parts(
    logits: Tensor, labels: Tensor, metrics: tuple[str, ...], ignore_index: int, shift: int
) -> dict[str, Tensor]:
    """The specification of each tile, then all merged."""
    moved = shifted_labels(labels, ignore_index, shift).reshape(-1)
    flat, first, parts = logits.reshape(-1, logits.shape[-1]), 0, []
    for size in cut(flat.shape[1]):
        parts.append(tile_sums.defined_sums(flat[:, first : first + size], first, moved.clamp(min=0)))
        first += size
    closed = tile_sums.defined_close(tile_sums.merged(torch.stack(parts)), first, Wanted(metrics))
    return {name: s.masked_fill(moved == ignore_index, 0.0).reshape(labels.shape) for name, s in closed.scores.items()}


def check_against_definition(logits: Tensor, labels: Tensor, sizes: Sequence[int], add: Add, close: Close) -> None:
    expected = definition.row_scores(logits, labels, definition.METRICS, -100, 0)
    closed = closed_of(logits, labels, sizes, Wanted(definition.METRICS), add, close)
    for name, values in closed.scores.items():
        assert cases.worst_error(values, expected[name]) <= cases.BOUND, name


def check_losses_and_gradients(
    module: Any, classes: int, dtype: torch.dtype, smoothing: float, device: str = "cpu"
) -> None:
    """Against F.cross_entropy in double precision on the same logits.

    The loss within 4e-6, with smoothing too: it adds up M - z_i, which are positive. The gradient, which replaces the
    logits, within one rounding to their dtype and 4e-6 of the largest term.
    """
    logits, labels = cases.rows(classes, dtype)
    logits, labels = logits.to(device), labels.to(device)
    wanted = Wanted((), True, smoothing)
    sizes = cut(classes)

    closed = closed_of(logits, labels, sizes, wanted, module.add_tile, module.close_sums)
    exact = logits.double().requires_grad_()
    expected = F.cross_entropy(exact, labels, reduction="none", label_smoothing=smoothing)
    assert closed.losses is not None and closed.state is not None
    error = (closed.losses.double() - expected).abs()
    rounding = 8 * torch.finfo(torch.float64).eps * exact.abs().amax(-1)  # of the reference, which subtracts logits
    assert not (error > 4e-6 * expected + rounding).any(), error / expected

    row_grad = torch.rand(len(labels), generator=torch.Generator().manual_seed(3)).to(device)
    for softcap in (0.0, 50.0):
        capped = 1 - (exact / softcap).square() if softcap else torch.ones(())
        (grad,) = torch.autograd.grad((0.5 * row_grad * expected).sum(), exact, retain_graph=True)
        wanted_grad, first = grad * capped.detach().to(device), 0
        for size in sizes:
            tile = logits[:, first : first + size].clone()
            module.gradient_in_place(tile, first, labels, classes, closed.state, row_grad, smoothing, 0.5, softcap)
            here = wanted_grad[:, first : first + size]
            allowed = 4e-6 * (0.5 * row_grad[:, None]).double() + torch.finfo(dtype).eps * here.abs() + 1e-7
            assert not ((tile.double() - here).abs() > allowed).any(), (softcap, first)
            first += size
