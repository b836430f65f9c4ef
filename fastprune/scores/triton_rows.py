"""Row scores and the cross-entropy forward on the GPU: Triton kernels that read each row of logits once.

Algebra: `triton_math`. What a row's sums turn into is in `_store_row`, which all kernels end with.

Three kernels. Short rows: one program takes several, as a tile in registers. Long rows are cut into
segments of SEGMENT_BYTES, a program each (`triton_segment`), and if there is more than one segment a
last small kernel merges a row's sums in the order of its segments. So a few long rows already keep
many multiprocessors busy and the last wave of programs is short; and since the cut depends on the
number of classes and the dtype alone, so do a row's bits: on no batch, address or set of metrics. Rows
that are not scored are not read, but all their outputs are written.

Bytes: rows * C * itemsize read, 8 a row and segment for the label, 4 a row and output written; where
there are several segments, 12 to 28 for each (twice that for fp64) written and read, 0.02 % of it.
Second readings, of one segment at a time, are rare and explained in `triton_segment`.

Accuracy. fp64 logits are subtracted from the reference in fp64; everything else is fp32. Of a term,
the rounding of its exponent costs at most 2^-19 ln 2 = 1.3e-6 and the hardware exponential 2^-22; the sums, C / 1024
roundings of numbers of one sign. Relative error <= 4e-6 for every metric, el2n from 1.41 down to 1e-12.

Every kernel is compiled without automatic contraction to fma (`tl.fma` stands where one is wanted), so
that a sum has the same bits wherever it is inlined.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastprune.platform.gpu import num_warps, on_device_of
from fastprune.platform.triton_launch import Launch, Plans
from fastprune.scores.definition import METRICS
from fastprune.scores.layout import as_rows, layout_key, unit_class_stride
from fastprune.scores.triton_math import (
    FAR,
    LOG2_E,
    SMALL,
    entropy_of,
    exp,
    hidden_one,
    log1p,
    merge,
    moved_spread,
    small_difference,
)
from fastprune.scores.triton_segment import segment_sums

_TRITON = tuple(int(part) for part in triton.__version__.split(".")[:2])
# Longer rows take the segment loop, whose fixed cost they outweigh from about here on. At 4096 they do not yet: on an
# H100 a tile takes 0.77 (bf16) and 0.86 (fp32) of the loop's time. But a tile has a power of two of columns.
SHORT = 2048
_NEARLY_4096 = range(3584, 4097)
# Of one program. Its fixed cost (label, first load, final sums: some 480 instructions a thread) is
# then 1 issue slot a 16-bit logit, next to 7.5 in the loop.
SEGMENT_BYTES = 128 * 1024
# Threads of a program for long rows, and rows of one that merges.
_THREADS = 128
# What one segment leaves to the merge: m, S1, S2, R, T, D, W.
_SUMS = tl.constexpr(7)


@triton.jit
def labels_of(row, labels, rows, tokens, classes, batch_stride, token_stride, shift, ignore_index):
    """(b, t, label, counted, valid) of rows: scored at all, and with a label in [0, classes).

    Of fewer than 2^31 rows, which a grid could not have either: a division of 64 bits is slow.
    """
    b = (row.to(tl.int32) // tokens).to(tl.int64)
    t = row - b * tokens
    has_label = (row < rows) & (t + shift < tokens)
    label = tl.load(labels + b * batch_stride + (t + shift) * token_stride, mask=has_label, other=0)
    counted = has_label & (label != ignore_index)
    valid = counted & (label >= 0) & (label < classes)
    return b, t, label, counted, valid


@triton.jit
def _store_row(
    row,  # int64, a scalar or a vector, as all values
    rows,
    counted,
    valid,
    label,
    z_label,
    m,
    s1,
    s2,
    r,
    t,
    d,
    w_others,  # W of `triton_math`: of the classes other than the label
    el2n,  # OUT (rows,) fp32, as the next five; each None unless its flag is set
    loss,
    confidence,
    margin,
    entropy,
    correct,
    losses,  # OUT (rows,) fp32, the criterion's loss; None unless TRAIN, as the next
    state,  # OUT (3 rows + 1,) fp32: M, 1 / Z and 1 - p_y of the rows, and 1
    weight,  # IN (classes,) fp32, None unless WEIGHTED
    weight_sum,  # IN () fp32, None unless WEIGHTED and SMOOTH
    classes,
    label_smoothing,
    EL2N: tl.constexpr,
    LOSS: tl.constexpr,
    CONFIDENCE: tl.constexpr,
    MARGIN: tl.constexpr,
    ENTROPY: tl.constexpr,
    CORRECT: tl.constexpr,
    TRAIN: tl.constexpr,
    WEIGHTED: tl.constexpr,
    SMOOTH: tl.constexpr,
):
    """Everything a row's sums determine, closed forms first, then the exceptions."""
    stored = row < rows
    inf: tl.constexpr = float("inf")
    nan: tl.constexpr = float("nan")
    # NaN, or +inf times 0, among the others has made s1 NaN.
    undefined = (s1 != s1) | (z_label != z_label) | (m == inf) | (z_label == inf) | (counted != valid)
    undefined = undefined | ((m == -inf) & (z_label == -inf))
    alone = m == -inf

    gap = (z_label - m).to(tl.float32)
    w = exp(tl.minimum(-gap, 0.0))
    p = exp(tl.minimum(gap, 0.0))
    others = w * s1
    z_sum = others + p
    if EL2N:
        score = w * tl.sqrt(s1 * s1 + s2) / z_sum
        score = tl.where(undefined, nan, tl.where(alone, 0.0, score))
        tl.store(el2n + row, tl.where(counted, score, 0.0), mask=stored)
    if LOSS or TRAIN:
        log_z = tl.where(gap >= 0.0, log1p(others), log1p((s1 - 1.0) + p))  # log sum e^(z_i - M)
        log_z = tl.where(undefined, nan, tl.where(alone, 0.0, log_z))
        hard = log_z + tl.maximum(-gap, 0.0)
    if LOSS:
        tl.store(loss + row, tl.where(counted, hard, 0.0), mask=stored)
    if CONFIDENCE:
        score = tl.where(undefined, nan, tl.where(alone, 1.0, p / z_sum))
        tl.store(confidence + row, tl.where(counted, score, 0.0), mask=stored)
    if MARGIN:
        score = tl.where(undefined, nan, gap)
        tl.store(margin + row, tl.where(counted, score, 0.0), mask=stored)
    if ENTROPY:
        score = entropy_of(gap, w, p, s1, r, t)
        score = tl.where(undefined, nan, tl.where(alone, 0.0, score))
        tl.store(entropy + row, tl.where(counted, score, 0.0), mask=stored)
    if CORRECT:
        score = tl.where(undefined, nan, tl.where(z_label >= m, 1.0, 0.0))  # a gap of fp64 may round to 0
        tl.store(correct + row, tl.where(counted, score, 0.0), mask=stored)
    if TRAIN:
        if WEIGHTED:
            w_label = tl.load(weight + label, mask=valid & stored, other=0.0)
        else:
            w_label = 1.0
        value = w_label * hard
        if SMOOTH:
            if WEIGHTED:
                w_all = tl.load(weight_sum)
            else:
                w_all = classes * 1.0
            # sum w_i (log_z + M - z_i), first relative to the largest of all, M. All terms are positive.
            lead = small_difference(z_label, m)
            d = moved_spread(d, w_others, tl.maximum(m, z_label), m) + w_label * tl.maximum(-lead, 0.0)
            spread = (w_all / classes) * log_z + d * ((1.0 / SMALL) / classes)
            # An infinite loss of the label has no share where all of it is smoothed away.
            value = tl.where(label_smoothing == 1.0, 0.0, (1.0 - label_smoothing) * value) + label_smoothing * spread
        tl.store(losses + row, tl.where(counted, value, 0.0), mask=stored)
        inverse = tl.where(undefined, nan, 1.0 / z_sum)
        missing = tl.where(undefined, nan, others / z_sum)
        tl.store(state + row, tl.where(counted, tl.maximum(m, z_label), 0.0), mask=stored)
        tl.store(state + (row + rows), tl.where(counted, inverse, 0.0), mask=stored)
        tl.store(state + (row + rows + rows), tl.where(counted, missing, 0.0), mask=stored)
        if tl.program_id(0) == 0:
            tl.store(state + rows + rows + rows, 1.0)


# Arguments that all kernels take in this order and hand on; see `_store_row` and `labels_of`.
_UNSPECIALISED = ["logits", "logits_batch_stride", "logits_token_stride"]


@triton.jit(do_not_specialize=_UNSPECIALISED, do_not_specialize_on_alignment=_UNSPECIALISED)
def short_rows_kernel(
    logits,  # IN  (B, T, C) fp16/bf16/fp32/fp64, class stride 1
    labels,  # IN  (B, T) int64
    weight,  # IN  (C,) fp32; None unless WEIGHTED
    weight_sum,  # IN  () fp32; None unless WEIGHTED and SMOOTH
    el2n,  # OUT (B, T) fp32 contiguous, as the next six; each None unless its flag is set
    loss,
    confidence,
    margin,
    entropy,
    correct,
    losses,  # None unless TRAIN, as the next
    state,  # OUT (3 B T + 1,) fp32: M, 1 / Z, 1 - p_y of all rows, and 1
    rows,  # B * T
    tokens,  # T
    classes,  # C
    logits_batch_stride,  # in elements, as the next three
    logits_token_stride,
    labels_batch_stride,
    labels_token_stride,
    shift,  # row (b, t) is scored against label (b, t + shift)
    ignore_index,
    label_smoothing,
    EL2N: tl.constexpr,
    LOSS: tl.constexpr,
    CONFIDENCE: tl.constexpr,
    MARGIN: tl.constexpr,
    ENTROPY: tl.constexpr,
    CORRECT: tl.constexpr,
    TRAIN: tl.constexpr,
    WEIGHTED: tl.constexpr,
    SMOOTH: tl.constexpr,
    ALIGNED: tl.constexpr,  # every row starts at a multiple of 16 bytes
    WHOLE: tl.constexpr,  # each lane shall have whole rows
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,  # a power of two, at least C
):
    """ROWS rows a program, each held whole in registers, so that m is known before anything is summed."""
    DOUBLE: tl.constexpr = logits.dtype.element_ty == tl.float64
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    b, t, label, counted, valid = labels_of(
        row, labels, rows, tokens, classes, labels_batch_stride, labels_token_stride, shift, ignore_index
    )
    z_row = logits + (b * logits_batch_stride + t * logits_token_stride)
    z_label = tl.load(z_row + label, mask=valid, other=0.0)
    if ALIGNED:
        z_row = tl.multiple_of((z_row.to(tl.int64) // 16 * 16).to(z_row.dtype), 16)
    column = tl.arange(0, COLUMNS)[None, :]
    inside = column < classes
    if ALIGNED:
        # The same, but seen to be constant over 16 bytes, or it would split the loads.
        per_load: tl.constexpr = 128 // logits.dtype.element_ty.primitive_bitwidth
        inside = column // per_load * per_load < classes
    at = column
    if WHOLE:
        at = column * hidden_one(rows)
    z = tl.load(z_row[:, None] + at, mask=valid[:, None] & inside)
    if not DOUBLE:
        z = z.to(tl.float32)
        z_label = z_label.to(tl.float32)

    other = inside & (column != label.to(tl.int32)[:, None])
    z = tl.where(other, z, float("-inf"))
    m = tl.max(z, axis=1)
    reference = tl.where(m == float("-inf"), 0.0, m)[:, None]
    d = tl.zeros((ROWS,), tl.float32)
    w_others = d
    if SMOOTH:
        w = tl.where(other, 1.0, 0.0)
        if WEIGHTED:
            w = tl.where(other, tl.load(weight + column, mask=inside, other=0.0), 0.0)
        d = tl.sum(tl.where(other, w * small_difference(reference, z), 0.0), axis=1)
        w_others = tl.sum(w, axis=1)
    below = (reference - z).to(tl.float32)
    e = tl.exp2(below * -LOG2_E)
    s1 = tl.sum(e, axis=1)
    s2 = tl.sum(e * e, axis=1)
    r = s1
    t_sum = s1
    if ENTROPY:
        largest = z == m[:, None]
        e = tl.where(largest, 0.0, e)
        r = tl.sum(e, axis=1) + (tl.sum(largest.to(tl.int32), axis=1) - 1).to(tl.float32)
        t_sum = tl.sum(e * tl.minimum(below, FAR), axis=1)
    _store_row(
        row, rows, counted, valid, label, z_label, m, s1, s2, r, t_sum, d, w_others,
        el2n, loss, confidence, margin, entropy, correct, losses, state, weight, weight_sum, classes, label_smoothing,
        EL2N, LOSS, CONFIDENCE, MARGIN, ENTROPY, CORRECT, TRAIN, WEIGHTED, SMOOTH,
    )  # fmt: skip


@triton.jit(do_not_specialize=_UNSPECIALISED, do_not_specialize_on_alignment=_UNSPECIALISED)
def long_rows_kernel(
    logits,  # as in short_rows_kernel, up to SMOOTH, but for `partial` and `segments`
    labels,
    weight,
    weight_sum,
    el2n,
    loss,
    confidence,
    margin,
    entropy,
    correct,
    losses,
    state,
    partial,  # OUT (segments, _SUMS, rows) fp32, fp64 for fp64 logits; None unless SPLIT
    rows,
    tokens,
    classes,
    logits_batch_stride,
    logits_token_stride,
    labels_batch_stride,
    labels_token_stride,
    shift,
    ignore_index,
    label_smoothing,
    segments,
    EL2N: tl.constexpr,
    LOSS: tl.constexpr,
    CONFIDENCE: tl.constexpr,
    MARGIN: tl.constexpr,
    ENTROPY: tl.constexpr,
    CORRECT: tl.constexpr,
    TRAIN: tl.constexpr,
    WEIGHTED: tl.constexpr,
    SMOOTH: tl.constexpr,
    SPLIT: tl.constexpr,  # there is more than one segment, and `merge_kernel` follows
    SEGMENT: tl.constexpr,
):
    """One segment of a row a program."""
    DOUBLE: tl.constexpr = logits.dtype.element_ty == tl.float64
    row = tl.program_id(0).to(tl.int64)
    segment = tl.program_id(1)
    b, t, label, counted, valid = labels_of(
        row, labels, rows, tokens, classes, labels_batch_stride, labels_token_stride, shift, ignore_index
    )
    z_row = logits + (b * logits_batch_stride + t * logits_token_stride)
    z_label = tl.load(z_row + label, mask=valid, other=0.0)
    if not DOUBLE:
        z_label = z_label.to(tl.float32)
    start = segment * SEGMENT
    size = tl.where(valid, tl.minimum(classes - start, SEGMENT), 0)
    if WEIGHTED:
        weights = weight + start
    else:
        weights = weight
    m, s1, s2, r, t_sum, d, w_others = segment_sums(
        z_row + start, weights, size, (label - start).to(tl.int32), z_label, ENTROPY, SMOOTH, WEIGHTED
    )
    if SPLIT:
        to = partial + segment.to(tl.int64) * rows * _SUMS + row
        tl.store(to, m)
        tl.store(to + rows, s1)
        tl.store(to + 2 * rows, s2)
        if ENTROPY:
            tl.store(to + 3 * rows, r)
            tl.store(to + 4 * rows, t_sum)
        if SMOOTH:
            tl.store(to + 5 * rows, d)
            tl.store(to + 6 * rows, w_others)
    else:
        _store_row(
            row, rows, counted, valid, label, z_label, m, s1, s2, r, t_sum, d, w_others,
            el2n, loss, confidence, margin, entropy, correct, losses, state, weight, weight_sum, classes,
            label_smoothing,
            EL2N, LOSS, CONFIDENCE, MARGIN, ENTROPY, CORRECT, TRAIN, WEIGHTED, SMOOTH,
        )  # fmt: skip


@triton.jit(do_not_specialize=_UNSPECIALISED, do_not_specialize_on_alignment=_UNSPECIALISED)
def merge_kernel(
    logits,  # as in long_rows_kernel; of the logits only the labels' are read
    labels,
    weight,
    weight_sum,
    el2n,
    loss,
    confidence,
    margin,
    entropy,
    correct,
    losses,
    state,
    partial,  # IN  (segments, _SUMS, rows), what long_rows_kernel wrote
    rows,
    tokens,
    classes,
    logits_batch_stride,
    logits_token_stride,
    labels_batch_stride,
    labels_token_stride,
    shift,
    ignore_index,
    label_smoothing,
    segments,
    EL2N: tl.constexpr,
    LOSS: tl.constexpr,
    CONFIDENCE: tl.constexpr,
    MARGIN: tl.constexpr,
    ENTROPY: tl.constexpr,
    CORRECT: tl.constexpr,
    TRAIN: tl.constexpr,
    WEIGHTED: tl.constexpr,
    SMOOTH: tl.constexpr,
    ROWS: tl.constexpr,
):
    """ROWS rows a program: merges each one's segments in their order."""
    DOUBLE: tl.constexpr = logits.dtype.element_ty == tl.float64
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    b, t, label, counted, valid = labels_of(
        row, labels, rows, tokens, classes, labels_batch_stride, labels_token_stride, shift, ignore_index
    )
    z_label = tl.load(logits + (b * logits_batch_stride + t * logits_token_stride + label), mask=valid, other=0.0)
    if not DOUBLE:
        z_label = z_label.to(tl.float32)
    m = tl.full((ROWS,), float("-inf"), z_label.dtype)
    s1 = tl.zeros((ROWS,), tl.float32)
    s2 = s1
    r = s1
    t_sum = s1
    d = s1
    w_others = s1
    at = partial + row
    for _ in range(segments):
        m_b = tl.load(at, mask=valid, other=float("-inf"))
        s1_b = tl.load(at + rows, mask=valid, other=0.0).to(tl.float32)
        s2_b = tl.load(at + 2 * rows, mask=valid, other=0.0).to(tl.float32)
        r_b = s1_b
        t_b = s1_b
        if ENTROPY:
            r_b = tl.load(at + 3 * rows, mask=valid, other=0.0).to(tl.float32)
            t_b = tl.load(at + 4 * rows, mask=valid, other=0.0).to(tl.float32)
        m_a = m
        m, s1, s2, r, t_sum = merge(m, s1, s2, r, t_sum, m_b, s1_b, s2_b, r_b, t_b, ENTROPY)
        if SMOOTH:
            d_b = tl.load(at + 5 * rows, mask=valid, other=0.0).to(tl.float32)
            w_b = tl.load(at + 6 * rows, mask=valid, other=0.0).to(tl.float32)
            d = moved_spread(d, w_others, m, m_a) + moved_spread(d_b, w_b, m, m_b)
            w_others += w_b
        at += _SUMS * rows
    _store_row(
        row, rows, counted, valid, label, z_label, m, s1, s2, r, t_sum, d, w_others,
        el2n, loss, confidence, margin, entropy, correct, losses, state, weight, weight_sum, classes, label_smoothing,
        EL2N, LOSS, CONFIDENCE, MARGIN, ENTROPY, CORRECT, TRAIN, WEIGHTED, SMOOTH,
    )  # fmt: skip


def short_tile(classes: int, itemsize: int) -> dict[str, int]:
    """Rows and columns of a short-row program, for `short_threads`.

    A row is reduced within one warp up to 1024 classes: no barriers, and the closed forms, which every
    thread of a row repeats, are repeated least.
    """
    columns = triton.next_power_of_2(classes)
    logits = 1024 if itemsize <= 4 else 512
    return {"ROWS": max(1, min(32, logits // columns)), "COLUMNS": columns}


def few_classes_tile(columns: int) -> tuple[dict[str, int], int]:
    """(tile, threads) for rows of so few classes that starting a program costs more than its 32 rows do: 128 rows."""
    return {"ROWS": 128, "COLUMNS": columns}, 128


def tile_and_threads(classes: int, itemsize: int) -> tuple[dict[str, int], int]:
    """(tile, threads) of a short-row program."""
    columns = triton.next_power_of_2(classes)
    if columns <= 8:  # on an H100 17 us instead of 23 for 2^20 rows of 7, 19 instead of 42 for 2^21 of 2
        return few_classes_tile(columns)
    return short_tile(classes, itemsize), short_threads(columns, itemsize)


def is_short(classes: int) -> bool:
    """Whether rows of that many classes are tiles, held in registers."""
    return classes <= SHORT or classes in _NEARLY_4096


def whole_rows(classes: int, aligned: bool) -> bool:
    """Whether each lane takes whole rows; longer rows issue as much either way."""
    return not aligned and classes <= 256


def short_threads(columns: int, itemsize: int) -> int:
    """32 logits a thread, 16 of fp64, which keeps the tile in registers."""
    return max(32, columns // (32 if itemsize <= 4 else 16))


def long_row_limit(entropy: bool, smooth: bool, itemsize: int, blackwell: bool = False) -> dict[str, int]:
    """The limit on registers a thread for long rows, as a launch option.

    Without one the compiler takes up to 96, to move more loads and exponentials ahead. Bytes in flight
    hide the memory's latency better: each thread has 32 of them under way, so 7 programs of 128 threads
    a multiprocessor, which 72 registers allow, keep 28 KB in flight. An H200 needs some 20, a B200 some
    29. The entropy carries 8 sums more a thread and would spill: 80 registers, 6 programs. Smoothing and
    fp64 would still spill, and are left alone. On Blackwell the assembler of Triton 3.8 spills with these limits, and
    on an A100 that of Triton 3.2 does for fp32.
    """
    if smooth or itemsize == 8 or torch.version.hip:
        return {}
    if blackwell and _TRITON == (3, 8):
        return {"maxnreg": 92 if entropy else 76}
    if _TRITON == (3, 2) and itemsize == 4:
        return {"maxnreg": 80}
    return {"maxnreg": 80 if entropy else 72}


@cache
def _is_blackwell(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 10


def segment_classes(itemsize: int) -> int:
    """Classes in a segment, of the element size alone."""
    return SEGMENT_BYTES // itemsize


def row_scores(
    logits: Tensor, labels: Tensor, metrics: tuple[str, ...], ignore_index: int, shift: int
) -> dict[str, Tensor]:
    """Scores of every row by the Triton kernels; the contract of `definition.row_scores`, and:

    Args:
        logits: (..., C) float16, bfloat16, float32 or float64 on a GPU, any strides.
        labels: (...) int64 on the same GPU, any strides. Labels outside [0, C) score NaN: to raise
            would need a synchronisation.

    Returns:
        One contiguous fp32 tensor of labels.shape for each metric, relative error <= 4e-6. Every
        row is written.

    Cost: one read of the logits; no synchronisation. The logits are copied only if their class
    dimension is not contiguous, their leading dimensions do not collapse to one, or rows of at most
    SHORT classes (and tiles of 4096) whose size is a multiple of 16 bytes do not start at one.
    """
    scores = {metric: _row_values(labels) for metric in metrics}
    launch(logits, labels, scores, ignore_index, shift)
    return scores


def launch(logits: Tensor, labels: Tensor, out: dict[str, Tensor], ignore_index: int, shift: int) -> None:
    """Runs the kernels into `out`: contiguous fp32 tensors of labels.shape, at multiples of 16 bytes, by metric."""
    if out:
        _launch(logits, labels, out, None, None, None, ignore_index, 0.0, shift)


def loss_forward(
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    metrics: tuple[str, ...],
    ignore_index: int,
    label_smoothing: float,
    shift: int,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The unreduced cross-entropy and row scores from one read of the logits.

    Args:
        logits, labels, metrics, ignore_index, shift: as `row_scores`, without float64.
        weight: (C,) contiguous fp32 on the same GPU, or None for ones.
        label_smoothing: in [0, 1].

    Returns:
        losses: fp32 labels.shape, as F.cross_entropy(reduction="none"): with hard = -log p_y,
            (1 - s) w_y hard + (s / C) sum_i w_i (-log p_i). 0 for ignored rows, NaN where `row_scores`
            gives NaN.
        state: fp32 (3 * rows + 1,), for `triton_gradient.loss_backward`: of each row M, the largest
            logit; 1 / Z with Z = sum_i e^(z_i - M); 1 - p_y, all 0 for ignored rows; last a 1, with which a
            reduction replaces its own factor.
        scores: as `row_scores`.

    Cost: as `row_scores`; smoothing with a weight reads the weight once a row, which the L2 cache holds.
    """
    losses = _row_values(labels)
    state = torch.empty(3 * labels.numel() + 1, dtype=torch.float32, device=logits.device)
    scores = {metric: _row_values(labels) for metric in metrics}
    if labels.numel() == 0:
        state.fill_(1.0)
    _launch(logits, labels, scores, losses, state, weight, ignore_index, label_smoothing, shift)
    return losses, state, scores


def _row_values(labels: Tensor) -> Tensor:
    return torch.empty_like(labels, dtype=torch.float32, memory_format=torch.contiguous_format)


class _Plan(NamedTuple):
    """The launches for logits and labels of one layout."""

    launches: tuple[Launch, ...]  # that of the rows, and one that merges where rows are cut
    short: bool
    weight_sum: bool  # is needed
    partial: tuple[int, ...]  # the shape of what is between the two


# By the layout of logits and labels, where no copy of them is needed, and the options.
_PLANS = Plans()


def _launch(
    logits: Tensor,
    labels: Tensor,
    out: dict[str, Tensor],
    losses: Tensor | None,
    state: Tensor | None,
    weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    shift: int,
) -> None:
    if labels.numel() == 0:
        return
    metrics, train = tuple(out), losses is not None
    key = (
        layout_key(logits, labels, weight),
        metrics,
        train,
        ignore_index,
        label_smoothing,
        shift,
    )
    plan = _PLANS.get(key)
    z, y = logits, labels
    if plan is None:  # or a copy is needed, whose plan is not kept
        z, y = _readable(*as_rows(unit_class_stride(logits), labels.resolve_neg()))
        plan = _planned(z, y, metrics, train, weight is not None, ignore_index, label_smoothing, shift)
        if logits.is_cuda and z.data_ptr() == logits.data_ptr() and y.data_ptr() == labels.data_ptr():
            _PLANS.keep(key, plan)
    with on_device_of(logits):
        weight_sum = weight.sum() if weight is not None and plan.weight_sum else None
        pointers = (z, y, weight, weight_sum, *(out.get(metric) for metric in METRICS), losses, state)
        if not plan.short:
            partial = None
            if len(plan.launches) > 1:
                partial = torch.empty(plan.partial, dtype=sums_dtype(z.dtype), device=z.device)
            pointers = (*pointers, partial)
        for start in plan.launches:
            start(*pointers)


def _planned(
    z: Tensor,
    y: Tensor,
    metrics: tuple[str, ...],
    train: bool,
    weighted: bool,
    ignore_index: int,
    label_smoothing: float,
    shift: int,
) -> _Plan:
    rows, tokens, classes, itemsize = y.numel(), y.shape[1], z.shape[-1], z.element_size()
    smooth = label_smoothing > 0
    numbers = (rows, tokens, classes, *z.stride()[:2], *y.stride(), shift, ignore_index, label_smoothing)
    options: dict[str, Any] = {
        **{metric.upper(): metric in metrics for metric in METRICS},
        "TRAIN": train,
        "WEIGHTED": weighted,
        "SMOOTH": smooth,
        "enable_fp_fusion": False,
    }
    weight_sum = weighted and smooth
    if is_short(classes):
        tile, threads = tile_and_threads(classes, itemsize)
        grid = (triton.cdiv(rows, tile["ROWS"]),)
        aligned = classes * itemsize % 16 == 0
        whole = whole_rows(classes, aligned)
        options |= {"ALIGNED": aligned, "WHOLE": whole, "num_warps": num_warps(threads), **tile}
        return _Plan((Launch(short_rows_kernel, grid, numbers, options),), True, weight_sum, ())
    options["num_warps"] = num_warps(_THREADS)
    segment = segment_classes(itemsize)
    segments = triton.cdiv(classes, segment)
    split = segments > 1
    numbers = (*numbers, segments)
    limit = long_row_limit("entropy" in metrics, smooth, itemsize, _is_blackwell(z.device))
    sums = options | limit | {"SPLIT": split, "SEGMENT": segment}
    launches = [Launch(long_rows_kernel, (rows, segments), numbers, sums)]
    if split:
        grid = (triton.cdiv(rows, _THREADS),)
        launches.append(Launch(merge_kernel, grid, numbers, options | {"ROWS": _THREADS}))
    return _Plan(tuple(launches), False, weight_sum, (segments, _SUMS.value, rows))


def sums_dtype(dtype: torch.dtype) -> torch.dtype:
    """Of the sums of a segment, the largest logit among them."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _readable(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T, C) and (B, T), with logits copied if short rows could start at 16 bytes and do not."""
    size = z.shape[-1] * z.element_size()
    if is_short(z.shape[-1]) and size % 16 == 0 and not _starts_aligned(z):
        z = z.clone(memory_format=torch.contiguous_format)
    return z, y


def _starts_aligned(z: Tensor) -> bool:
    """Whether every row of (B, T, C) starts at a multiple of 16 bytes."""
    steps = [stride * z.element_size() for size, stride in zip(z.shape[:2], z.stride()[:2], strict=True) if size > 1]
    return all(step % 16 == 0 for step in (z.data_ptr(), *steps))
