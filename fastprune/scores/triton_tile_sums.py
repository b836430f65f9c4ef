"""Scores and losses of rows whose logits come in tiles, on the GPU: `fastprune.scores.tile_sums` says what and why.

    tile, labels -> sums of each row, carried from tile to tile -> scores, losses, state
                    (`triton_segment`, merged by `triton_math`)    (`triton_results`)

A program takes one row of a tile as one segment and merges its sums with those of the tiles before. Labels that are in
no tile would leave a label's logit of 0, so `fastprune.scores.linear_ops` marks such rows.

Bytes: a tile is read once, and is meant to stay in the L2 cache. 112 bytes for each row and tile are read and written
beside that, so a tile of 2,048 classes in 16 bits costs 3 % more. The gradient reads and writes a tile once.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastprune.platform.gpu import num_warps, on_device_of
from fastprune.scores.tile_sums import Closed, Wanted
from fastprune.scores.triton_math import SMALL, exp, merge
from fastprune.scores.triton_results import bits_of, in_order, store_loss, store_scores
from fastprune.scores.triton_segment import segment_sums

_THREADS = 128
# Logits of a program of the gradient.
_BLOCK = 1024
# float64 numbers of a row in `sums`: z_y, m, S1, S2, R, T, A.
_SUMS = tl.constexpr(7)
_UNSPECIALISED = ["tile", "classes", "first_class"]


@triton.jit(do_not_specialize=_UNSPECIALISED, do_not_specialize_on_alignment=_UNSPECIALISED)
def add_tile_kernel(
    sums,  # INOUT (rows, _SUMS) fp64 contiguous
    tile,  # IN  (rows, classes) fp16/bf16/fp32 contiguous
    labels,  # IN  (rows,) int64 contiguous, among all classes
    classes,  # of the tile
    first_class,
    BEGINS: tl.constexpr,  # sums are not read
    ENTROPY_TOO: tl.constexpr,
    TOTALS: tl.constexpr,
):
    """Takes one row a program."""
    row = tl.program_id(0).to(tl.int64)
    label = (tl.load(labels + row) - first_class).to(tl.int32)
    here = (label >= 0) & (label < classes)
    logits = tile + row * classes
    z_label = tl.load(logits + label, mask=here, other=0.0).to(tl.float32)
    # R is needed to its last digit where the largest logit leads the label. A label elsewhere may be far below.
    lowest = tl.where(here, z_label, float("-inf"))
    size = tl.minimum(classes, 2**30).to(tl.int32)
    m_b, s1_b, s2_b, r_b, t_b, d_b, w_b = segment_sums(logits, None, size, label, lowest, ENTROPY_TOO, TOTALS)
    m = m_b
    s1 = s1_b
    s2 = s2_b
    r = r_b
    t = t_b
    at = sums + row * _SUMS
    own = tl.where(here, z_label, 0.0).to(tl.float64)
    total = own
    if TOTALS:
        others = w_b.to(tl.float64) * m_b.to(tl.float64) - d_b.to(tl.float64) / SMALL
        total += tl.where(w_b > 0.0, others, 0.0)
    if not BEGINS:
        own += tl.load(at)
        m_a = tl.load(at + 1).to(tl.float32)
        s1_a = tl.load(at + 2).to(tl.float32)
        s2_a = tl.load(at + 3).to(tl.float32)
        r_a = tl.load(at + 4).to(tl.float32)
        t_a = tl.load(at + 5).to(tl.float32)
        total += tl.load(at + 6)
        m, s1, s2, r, t = merge(m_a, s1_a, s2_a, r_a, t_a, m_b, s1_b, s2_b, r_b, t_b, ENTROPY_TOO)
    tl.debug_barrier()  # no thread may write before every thread has read
    tl.store(at, own)
    tl.store(at + 1, m.to(tl.float64))
    tl.store(at + 2, s1.to(tl.float64))
    tl.store(at + 3, s2.to(tl.float64))
    tl.store(at + 4, r.to(tl.float64))
    tl.store(at + 5, t.to(tl.float64))
    tl.store(at + 6, total)


@triton.jit
def close_sums_kernel(
    sums,  # IN  (rows, _SUMS) fp64 contiguous
    scores,  # OUT (metrics, rows) fp32 contiguous, or None without metrics
    losses,  # OUT (rows,) fp32, or None without a loss, as the next
    state,  # OUT (3 rows + 1,) fp32: M, 1 / Z and 1 - p_y of all rows, and 1
    rows,
    classes,  # all of them
    label_smoothing,  # None for none
    METRICS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Takes ROWS rows a program."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    counted = row < rows
    at = sums + row * _SUMS
    own = tl.load(at, mask=counted, other=0.0)
    top = tl.load(at + 1, mask=counted, other=0.0)
    z_label = own.to(tl.float32)
    m = top.to(tl.float32)
    s1 = tl.load(at + 2, mask=counted, other=0.0).to(tl.float32)
    s2 = tl.load(at + 3, mask=counted, other=0.0).to(tl.float32)
    r = tl.load(at + 4, mask=counted, other=0.0).to(tl.float32)
    t = tl.load(at + 5, mask=counted, other=0.0).to(tl.float32)
    if scores is not None:
        store_scores(scores, row, rows, counted, counted, z_label, m, s1, s2, r, t, METRICS)
    if losses is not None:
        d = s1
        others = s1
        if label_smoothing is not None:
            total = tl.load(at + 6, mask=counted, other=0.0)
            others = (s1 * 0.0) + (classes - 1.0)
            d = (((classes - 1.0) * top - (total - own)) * SMALL).to(tl.float32)
            d = tl.where(total == float("-inf"), float("inf"), d)  # a masked class
        store_loss(
            losses, state, None, None, row, rows, classes, counted, counted, row, z_label, m, s1, d, others,
            label_smoothing,
        )  # fmt: skip


# Where 16 divides the classes, logits are loaded 16 bytes at a time.
@triton.jit(do_not_specialize=["first_class", "all_classes"])
def tile_gradient_kernel(
    tile,  # INOUT (rows, classes) fp16/bf16/fp32 contiguous: logits become their gradient
    labels,  # IN  (rows,) int64 contiguous, among all classes
    largest,  # IN  (rows,) fp32: M
    inverse,  # IN  (rows,) fp32: 1 / Z
    doubt,  # IN  (rows,) fp32: 1 - p_y
    row_grad,  # IN  (rows,) fp32
    classes,  # of the tile
    first_class,
    all_classes,
    scale,  # a factor of all rows
    label_smoothing,
    softcap,  # None for none
    BLOCK: tl.constexpr,
):
    """Takes BLOCK logits of one row a program."""
    row = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = place < classes
    at = tile + row * classes + place
    z = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    label = tl.load(labels + row) - first_class
    p = exp(z - tl.load(largest + row)) * tl.load(inverse + row)
    missing = tl.load(doubt + row)
    g = tl.load(row_grad + row) * scale
    each = label_smoothing / all_classes
    of_label = label_smoothing * (1.0 - missing) - (1.0 - label_smoothing) * missing
    grad = g * (tl.where(place == label, of_label, p) - each)
    if softcap is not None:
        capped = z / softcap
        grad *= 1.0 - capped * capped
    tl.store(at, grad.to(tile.dtype.element_ty), mask=inside)


def add_tile(sums: Tensor, tile: Tensor, first_class: int, labels: Tensor, wanted: Wanted, *, begins: bool) -> None:
    """Runs `add_tile_kernel`, with the contract of `tile_sums.add_tile`. Takes no float64."""
    with on_device_of(tile):
        add_tile_kernel[(len(tile),)](
            sums,
            tile,
            labels,
            tile.shape[1],
            first_class,
            BEGINS=begins,
            ENTROPY_TOO="entropy" in wanted.metrics,
            TOTALS=wanted.totals,
            num_warps=num_warps(_THREADS),
            enable_fp_fusion=False,
        )


def close_sums(sums: Tensor, classes: int, wanted: Wanted) -> Closed:
    """Runs `close_sums_kernel`, with the contract of `tile_sums.close_sums`."""
    rows = len(sums)
    names = in_order(wanted.metrics)
    scores = torch.empty(len(names), rows, dtype=torch.float32, device=sums.device) if names else None
    losses = torch.empty(rows, dtype=torch.float32, device=sums.device) if wanted.loss else None
    state = torch.empty(3 * rows + 1, dtype=torch.float32, device=sums.device) if wanted.loss else None
    if rows:
        with on_device_of(sums):
            close_sums_kernel[(triton.cdiv(rows, _THREADS),)](
                sums,
                scores,
                losses,
                state,
                rows,
                classes,
                wanted.label_smoothing if wanted.totals else None,
                METRICS=bits_of(wanted.metrics),
                ROWS=_THREADS,
                num_warps=num_warps(_THREADS),
                enable_fp_fusion=False,
            )
    by_name = {} if scores is None else dict(zip(names, scores.unbind(), strict=True))
    three = None if state is None else state[: 3 * rows].view(3, rows)
    return Closed(losses, three, {name: by_name[name] for name in wanted.metrics})


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
    """Runs `tile_gradient_kernel`, with the contract of `tile_sums.gradient_in_place`."""
    rows, columns = tile.shape
    if not rows:
        return
    with on_device_of(tile):
        tile_gradient_kernel[(rows, triton.cdiv(columns, _BLOCK))](
            tile,
            labels,
            *state,
            row_grad,
            columns,
            first_class,
            classes,
            scale,
            label_smoothing,
            softcap if softcap else None,
            BLOCK=_BLOCK,
            num_warps=num_warps(_THREADS),
            enable_fp_fusion=False,
        )
