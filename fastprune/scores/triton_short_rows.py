"""Scores and losses of short rows: a program takes several, as a tile in registers (`triton_tiles`).

All of a row is in registers before anything is summed. So its largest logit m is known, and the sums of `triton_math`
are taken relative to it at once.

Bytes: rows * C * itemsize read, 8 a row for the label, 4 a row and output written.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from fastprune.platform.gpu import num_warps
from fastprune.platform.triton_launch import Launch
from fastprune.scores.triton_labels import labels_of
from fastprune.scores.triton_math import FAR, LOG2_E, small_difference
from fastprune.scores.triton_results import ENTROPY, store_loss, store_scores
from fastprune.scores.triton_tiles import aligned_down, columns_of, few_classes_tile, short_threads, short_tile

# If rows are not aligned, each lane takes whole rows up to this number of columns. Longer rows cost the same either
# way.
_WHOLE = tl.constexpr(256)
# Arguments whose values Triton's launcher must not look at. It would compile anew for some of them.
_UNSPECIALISED = ["logits", "logits_batch_stride", "logits_token_stride"]


@triton.jit(do_not_specialize=_UNSPECIALISED, do_not_specialize_on_alignment=_UNSPECIALISED)
def short_rows_kernel(
    logits,  # IN  (B, T, C) fp16/bf16/fp32/fp64, class stride 1
    labels,  # IN  (B, T) int64
    weight,  # IN  (C,) fp32, or None for ones
    weight_sum,  # IN  () fp32, or None without a weight or without smoothing
    scores,  # OUT (metrics, B * T) fp32 contiguous, or None without metrics
    losses,  # OUT (B, T) fp32 contiguous, or None without a loss, as the next
    state,  # OUT (3 B T + 1,) fp32: M, 1 / Z and 1 - p_y of all rows, and 1
    rows,  # B * T
    tokens,  # T
    classes,  # C
    logits_batch_stride,  # in elements, as the next three
    logits_token_stride,
    labels_batch_stride,
    labels_token_stride,
    shift,  # row (b, t) is scored against label (b, t + shift)
    ignore_index,
    label_smoothing,  # None for none
    METRICS: tl.constexpr,  # a set of bits of `triton_results`
    ALIGNED: tl.constexpr,  # every row starts at a multiple of 16 bytes
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,  # a power of two, at least C
):
    """Each program takes ROWS rows."""
    PER_LOAD: tl.constexpr = 128 // logits.dtype.element_ty.primitive_bitwidth
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    b, t, label, counted, valid = labels_of(
        row, labels, rows, tokens, classes, labels_batch_stride, labels_token_stride, shift, ignore_index
    )
    z_row = logits + (b * logits_batch_stride + t * logits_token_stride)
    z_label = tl.load(z_row + label, mask=valid, other=0.0)
    if ALIGNED:
        z_row = aligned_down(z_row)
    column, inside, at = columns_of(classes, rows, PER_LOAD, ALIGNED, not ALIGNED and COLUMNS <= _WHOLE, COLUMNS)
    z = tl.load(z_row[:, None] + at, mask=valid[:, None] & inside)
    if logits.dtype.element_ty != tl.float64:
        z = z.to(tl.float32)
        z_label = z_label.to(tl.float32)

    other = inside & (column != label.to(tl.int32)[:, None])
    z = tl.where(other, z, float("-inf"))
    m = tl.max(z, axis=1)
    reference = tl.where(m == float("-inf"), 0.0, m)[:, None]
    d = tl.zeros((ROWS,), tl.float32)
    w_others = d
    if label_smoothing is not None:
        w = tl.where(other, 1.0, 0.0)
        if weight is not None:
            w = tl.where(other, tl.load(weight + column, mask=inside, other=0.0), 0.0)
        d = tl.sum(tl.where(other, w * small_difference(reference, z), 0.0), axis=1)
        w_others = tl.sum(w, axis=1)
    below = (reference - z).to(tl.float32)
    e = tl.exp2(below * -LOG2_E)
    s1 = tl.sum(e, axis=1)
    s2 = tl.sum(e * e, axis=1)
    r = s1
    t_sum = s1
    if ENTROPY & METRICS:
        largest = z == m[:, None]
        e = tl.where(largest, 0.0, e)
        r = tl.sum(e, axis=1) + (tl.sum(largest.to(tl.int32), axis=1) - 1).to(tl.float32)
        t_sum = tl.sum(e * tl.minimum(below, FAR), axis=1)
    if scores is not None:
        store_scores(scores, row, rows, counted, valid, z_label, m, s1, s2, r, t_sum, METRICS)
    if losses is not None:
        store_loss(
            losses, state, weight, weight_sum, row, rows, classes, counted, valid, label, z_label, m, s1, d, w_others,
            label_smoothing,
        )  # fmt: skip


def tile_and_threads(classes: int, itemsize: int) -> tuple[dict[str, int], int]:
    """(tile, threads) of a program."""
    columns = triton.next_power_of_2(classes)
    if columns <= 8:  # on an H100 17 us instead of 23 for 2^20 rows of 7, 19 instead of 42 for 2^21 of 2
        return few_classes_tile(columns)
    return short_tile(classes, itemsize), short_threads(columns, itemsize)


def planned(z: Tensor, numbers: tuple[Any, ...], constants: dict[str, Any]) -> Launch:
    """The launch for logits (B, T, C) of short rows.

    Args:
        z: The logits. If the size of a row is a multiple of 16 bytes, every row starts at one.
        numbers: The arguments of the kernel after its pointers.
        constants: METRICS, and options of Triton.
    """
    rows, classes, itemsize = z.shape[0] * z.shape[1], z.shape[2], z.element_size()
    tile, threads = tile_and_threads(classes, itemsize)
    options = {"ALIGNED": classes * itemsize % 16 == 0, **tile, "num_warps": num_warps(threads)}
    return Launch(short_rows_kernel, (triton.cdiv(rows, tile["ROWS"]),), numbers, constants | options)
