"""Scores and losses of long rows: a program takes one segment of a row, and a small kernel merges the segments.

A row is cut into segments of SEGMENT_BYTES (`triton_segment`). If there is more than one segment, `merge_kernel` merges
the sums of each row in the order of its segments. So a few long rows already keep many multiprocessors busy, and the
last wave of programs is short. The cut depends on the number of classes and on the dtype alone. So the bits of a row
depend neither on the batch nor on the address nor on the set of metrics.

Bytes: rows * C * itemsize read, 8 a row and segment for the label, 4 a row and output written. If a row has several
segments, 12 to 28 bytes for each (twice that for fp64) are written and read again. That adds 0.02 %. Second readings,
of one segment at a time, are rare. `triton_segment` explains them.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastprune.platform.gpu import num_warps
from fastprune.platform.triton_launch import Launch
from fastprune.scores.triton_labels import labels_of
from fastprune.scores.triton_math import merge, moved_spread
from fastprune.scores.triton_results import ENTROPY, store_loss, store_scores
from fastprune.scores.triton_segment import segment_sums

_TRITON = tuple(int(part) for part in triton.__version__.split(".")[:2])
# The bytes that one program reads. At this size its fixed cost (label, first load, final sums: some 480 instructions a
# thread) is 1 issue slot a 16-bit logit, against 7.5 in the loop.
SEGMENT_BYTES = 128 * 1024
# Threads of a program. A program that merges takes as many rows.
_THREADS = 128
# What one segment leaves to the merge: m, S1, S2, R, T, D, W.
_SUMS = tl.constexpr(7)
_UNSPECIALISED = ["logits", "logits_batch_stride", "logits_token_stride"]


@triton.jit(do_not_specialize=_UNSPECIALISED, do_not_specialize_on_alignment=_UNSPECIALISED)
def long_rows_kernel(
    logits,  # IN  (B, T, C) fp16/bf16/fp32/fp64, class stride 1
    labels,  # IN  (B, T) int64
    weight,  # IN  (C,) fp32, or None for ones
    weight_sum,  # IN  () fp32, or None without a weight or without smoothing
    scores,  # OUT (metrics, B * T) fp32 contiguous, or None without metrics
    losses,  # OUT (B, T) fp32 contiguous, or None without a loss, as the next
    state,  # OUT (3 B T + 1,) fp32: M, 1 / Z and 1 - p_y of all rows, and 1
    partial,  # OUT (segments, _SUMS, B * T) fp32, fp64 for fp64 logits; None if a row is one segment
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
    SEGMENT: tl.constexpr,  # classes of a segment
):
    """Each program takes one segment of a row. It writes `partial`, or the results if `partial` is None."""
    row = tl.program_id(0).to(tl.int64)
    segment = tl.program_id(1)
    b, t, label, counted, valid = labels_of(
        row, labels, rows, tokens, classes, labels_batch_stride, labels_token_stride, shift, ignore_index
    )
    z_row = logits + (b * logits_batch_stride + t * logits_token_stride)
    z_label = tl.load(z_row + label, mask=valid, other=0.0)
    if logits.dtype.element_ty != tl.float64:
        z_label = z_label.to(tl.float32)
    start = segment * SEGMENT
    size = tl.where(valid, tl.minimum(classes - start, SEGMENT), 0)
    weights = weight
    if weight is not None:
        weights = weight + start
    m, s1, s2, r, t_sum, d, w_others = segment_sums(
        z_row + start, weights, size, (label - start).to(tl.int32), z_label, ENTROPY & METRICS,
        label_smoothing is not None,
    )  # fmt: skip
    if partial is not None:
        to = partial + segment.to(tl.int64) * rows * _SUMS + row
        tl.store(to, m)
        tl.store(to + rows, s1)
        tl.store(to + 2 * rows, s2)
        if ENTROPY & METRICS:
            tl.store(to + 3 * rows, r)
            tl.store(to + 4 * rows, t_sum)
        if label_smoothing is not None:
            tl.store(to + 5 * rows, d)
            tl.store(to + 6 * rows, w_others)
    else:
        if scores is not None:
            store_scores(scores, row, rows, counted, valid, z_label, m, s1, s2, r, t_sum, METRICS)
        if losses is not None:
            store_loss(
                losses, state, weight, weight_sum, row, rows, classes, counted, valid, label, z_label, m, s1, d,
                w_others, label_smoothing,
            )  # fmt: skip


@triton.jit(do_not_specialize=_UNSPECIALISED, do_not_specialize_on_alignment=_UNSPECIALISED)
def merge_kernel(
    logits,  # IN  (B, T, C) fp16/bf16/fp32/fp64, of which only the logits of the labels are read
    labels,  # IN  (B, T) int64
    weight,  # IN  (C,) fp32, or None for ones
    weight_sum,  # IN  () fp32, or None without a weight or without smoothing
    scores,  # OUT (metrics, B * T) fp32 contiguous, or None without metrics
    losses,  # OUT (B, T) fp32 contiguous, or None without a loss, as the next
    state,  # OUT (3 B T + 1,) fp32: M, 1 / Z and 1 - p_y of all rows, and 1
    partial,  # IN  (segments, _SUMS, B * T) fp32 or fp64, what long_rows_kernel wrote
    rows,  # as in long_rows_kernel, up to label_smoothing
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
    METRICS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Each program takes ROWS rows, and merges the segments of each row in their order."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    b, t, label, counted, valid = labels_of(
        row, labels, rows, tokens, classes, labels_batch_stride, labels_token_stride, shift, ignore_index
    )
    z_label = tl.load(logits + (b * logits_batch_stride + t * logits_token_stride + label), mask=valid, other=0.0)
    if logits.dtype.element_ty != tl.float64:
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
        if ENTROPY & METRICS:
            r_b = tl.load(at + 3 * rows, mask=valid, other=0.0).to(tl.float32)
            t_b = tl.load(at + 4 * rows, mask=valid, other=0.0).to(tl.float32)
        m_a = m
        m, s1, s2, r, t_sum = merge(m, s1, s2, r, t_sum, m_b, s1_b, s2_b, r_b, t_b, ENTROPY & METRICS)
        if label_smoothing is not None:
            d_b = tl.load(at + 5 * rows, mask=valid, other=0.0).to(tl.float32)
            w_b = tl.load(at + 6 * rows, mask=valid, other=0.0).to(tl.float32)
            d = moved_spread(d, w_others, m, m_a) + moved_spread(d_b, w_b, m, m_b)
            w_others += w_b
        at += _SUMS * rows
    if scores is not None:
        store_scores(scores, row, rows, counted, valid, z_label, m, s1, s2, r, t_sum, METRICS)
    if losses is not None:
        store_loss(
            losses, state, weight, weight_sum, row, rows, classes, counted, valid, label, z_label, m, s1, d, w_others,
            label_smoothing,
        )  # fmt: skip


def segment_classes(itemsize: int) -> int:
    """Classes in a segment. Only the size of an element decides it."""
    return SEGMENT_BYTES // itemsize


def long_row_limit(entropy: bool, smooth: bool, itemsize: int, blackwell: bool = False) -> dict[str, int]:
    """The limit on registers a thread for long_rows_kernel, as a launch option.

    Without a limit the compiler takes up to 96, to start more loads and exponentials early. More bytes in flight hide
    the latency of the memory better than that. Each thread has 32 bytes in flight. With 72 registers, 7 programs of 128
    threads share a multiprocessor and keep 28 KB in flight. An H200 needs some 20 KB, a B200 some 29.

    With entropy a thread carries 8 sums more, and 72 registers would spill. So it gets 80, and 6 programs share a
    multiprocessor. Smoothing and fp64 would still spill, so they get no limit. On Blackwell the assembler of Triton 3.8
    spills with these limits. On an A100 the assembler of Triton 3.2 does so for fp32.
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


class Plan(NamedTuple):
    """How logits of one layout are gone through."""

    launches: tuple[Launch, ...]  # long_rows_kernel, and merge_kernel if rows are cut
    partial: tuple[int, ...] | None  # the shape of what the first leaves to the second


def planned(z: Tensor, numbers: tuple[Any, ...], constants: dict[str, Any], smooth: bool) -> Plan:
    """The launches for logits (B, T, C) of long rows.

    Args:
        z: The logits.
        numbers: The arguments of long_rows_kernel after its pointers.
        constants: METRICS, and options of Triton.
        smooth: Whether label smoothing is among the numbers.
    """
    rows, classes, itemsize = z.shape[0] * z.shape[1], z.shape[2], z.element_size()
    segment = segment_classes(itemsize)
    segments = triton.cdiv(classes, segment)
    constants = constants | {"num_warps": num_warps(_THREADS)}
    entropy = bool(constants["METRICS"] & ENTROPY.value)
    limit = long_row_limit(entropy, smooth, itemsize, _is_blackwell(z.device))
    sums = Launch(long_rows_kernel, (rows, segments), numbers, constants | limit | {"SEGMENT": segment})
    if segments == 1:
        return Plan((sums,), None)
    grid = (triton.cdiv(rows, _THREADS),)
    merging = Launch(merge_kernel, grid, (*numbers, segments), constants | {"ROWS": _THREADS})
    return Plan((sums, merging), (segments, _SUMS.value, rows))


def sums_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the sums of a segment, because the largest logit is among them."""
    return torch.float64 if dtype == torch.float64 else torch.float32
