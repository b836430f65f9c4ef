"""The gradient of the cross-entropy on the GPU: Triton kernels that read and write each row once.

With g the gradient of a row's unreduced loss, p_i = e^(z_i - M) / Z from the forward pass's statistics,
smoothing s over C classes and weights w (ones if there are none, W their sum):

    dz_i = g [ (1 - s) w_y (p_i - [i = y]) + (s / C) (W p_i - w_i) ]  =  a p_i - b w_i,   i != y

At the label p_y - 1 is not formed by subtraction: the forward pass left 1 - p_y, which keeps all its
digits where the model is confident. Arithmetic in fp32, in registers; the logits are not written.

Rows of more than SHORT classes are cut into blocks, a program each; shorter rows go several to a
program. In a block loads and stores are of 16 bytes a thread also where rows start anywhere (50,257
classes of 16 bits), as long as a row of logits and its gradient start at the same distance from a
multiple of 16 bytes, which rows of contiguous logits do. Then only the ends of a row that share their
16 bytes with a neighbour are stored one by one.

Bytes: rows * C * itemsize read and as many written; 24 a row and block for its label and statistics.
A row that is not counted is written, with zeros, and not read.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastprune.platform.gpu import num_warps, on_device_of
from fastprune.platform.triton_launch import Launch, Plans
from fastprune.scores.layout import as_rows, layout_key, unit_class_stride
from fastprune.scores.triton_math import LOG2_E, hidden_one
from fastprune.scores.triton_rows import SHORT, few_classes_tile, labels_of, short_threads, short_tile

# 32 logits a thread, all under way at once; the label and statistics cost some 200 instructions a thread.
BLOCK = 4096
_THREADS = 128


@triton.jit
def _row_factors(
    row,
    b,
    t,
    counted,
    valid,
    label,
    classes,
    grad_loss,
    weight,
    weight_sum,
    state,
    rows,
    grad_batch_stride,
    grad_token_stride,
    label_smoothing,
    SMOOTH: tl.constexpr,
    WEIGHTED: tl.constexpr,
):
    """(M, a / Z, b, dz_y) of rows; NaN for rows whose label is out of range, all 0 for those not counted."""
    g = tl.load(grad_loss + (b * grad_batch_stride + t * grad_token_stride), mask=counted, other=0.0)
    # The mean over no row has an infinite factor.
    g = tl.where(counted, g * tl.load(state + rows + rows + rows), 0.0)
    top = tl.load(state + row, mask=counted, other=0.0)
    inverse = tl.load(state + (row + rows), mask=counted, other=0.0)
    missing = tl.load(state + (row + rows + rows), mask=counted, other=0.0)
    hard = g
    w_label = 1.0
    if WEIGHTED:
        w_label = tl.load(weight + label, mask=valid, other=0.0)
        hard = g * w_label
    each = hard
    at_label = -hard * missing
    a = hard
    if SMOOTH:
        each = g * (label_smoothing / classes)
        if WEIGHTED:
            spread = each * tl.load(weight_sum)
        else:
            spread = g * label_smoothing
        hard = hard * (1.0 - label_smoothing)
        a = hard + spread
        # W p_y - w_y, with p_y = 1 - missing.
        at_label = (spread - each * w_label) - a * missing
    return top, tl.where(counted != valid, float("nan"), a * inverse), each, tl.where(counted, at_label, 0.0)


@triton.jit
def _gradient(z, top, a, b, at_label, is_label, w, SMOOTH: tl.constexpr, WEIGHTED: tl.constexpr):
    """dz of logits z; `w` their weights if SMOOTH and WEIGHTED."""
    dz = a * tl.exp2((z.to(tl.float32) - top) * LOG2_E)
    if SMOOTH:
        if WEIGHTED:
            dz = dz - b * w
        else:
            dz = dz - b
    return tl.where(is_label, at_label, dz)


_UNSPECIALISED = ["logits", "grad", "logits_batch_stride", "logits_token_stride"]


@triton.jit(do_not_specialize=_UNSPECIALISED, do_not_specialize_on_alignment=_UNSPECIALISED)
def long_gradient_kernel(
    grad_loss,  # IN  (B, T) fp32: d(final) / d(loss), with its own strides
    logits,  # IN  (B, T, C) fp16/bf16/fp32, class stride 1
    labels,  # IN  (B, T) int64
    weight,  # IN  (C,) fp32; None unless WEIGHTED
    weight_sum,  # IN  () fp32; None unless WEIGHTED and SMOOTH
    state,  # IN  (3 B T + 1,) fp32: M, 1 / Z, 1 - p_y of all rows, and d(loss) / d(a row's unreduced loss)
    grad,  # OUT (B, T, C) contiguous, the logits' dtype
    rows,  # B * T
    tokens,  # T
    classes,  # C
    blocks,  # programs a row
    logits_batch_stride,  # in elements, as the next five
    logits_token_stride,
    labels_batch_stride,
    labels_token_stride,
    grad_batch_stride,
    grad_token_stride,
    shift,  # row (b, t) is scored against label (b, t + shift)
    ignore_index,
    label_smoothing,
    SMOOTH: tl.constexpr,
    WEIGHTED: tl.constexpr,
    TOGETHER: tl.constexpr,  # a row and its gradient start equally far from a multiple of 16 bytes
    BLOCK: tl.constexpr,
):
    """One block of a row a program."""
    program = tl.program_id(0)
    row = (program // blocks).to(tl.int64)
    start = program % blocks * BLOCK
    b, t, label, counted, valid = labels_of(
        row, labels, rows, tokens, classes, labels_batch_stride, labels_token_stride, shift, ignore_index
    )
    top, a, b_smooth, at_label = _row_factors(
        row, b, t, counted, valid, label, classes, grad_loss, weight, weight_sum, state, rows,
        grad_batch_stride, grad_token_stride, label_smoothing, SMOOTH, WEIGHTED,
    )  # fmt: skip
    z_row = logits + (b * logits_batch_stride + t * logits_token_stride)
    grad_row = grad + row * classes

    # Positions count elements from z_row, which TOGETHER moves down by s of them to an aligned address.
    s = tl.full((), 0, tl.int32)
    position = start + tl.arange(0, BLOCK)
    end = classes + s
    readable = tl.where(counted, end, 0)
    wanted = position < readable
    whole = position < end
    if TOGETHER:
        per_load: tl.constexpr = 128 // logits.dtype.element_ty.primitive_bitwidth
        z_address = z_row.to(tl.int64)
        s = (z_address % 16 * per_load // 16).to(tl.int32)
        z_row = tl.multiple_of((z_address // 16 * 16).to(z_row.dtype), 16)
        grad_row = tl.multiple_of((grad_row.to(tl.int64) // 16 * 16).to(grad_row.dtype), 16)
        end = classes + s
        readable = tl.where(counted, end, 0)
        # Constant over 16 bytes, or it would split the loads and stores.
        granule = position // per_load * per_load
        wanted = granule < readable
        whole = (granule >= s) & (granule + per_load <= end)
    z = tl.load(z_row + position, mask=wanted, other=0.0)
    w = z
    if SMOOTH and WEIGHTED:
        w = tl.load(weight + (position - s), mask=(position >= s) & (position < end), other=0.0)
    is_label = position == label.to(tl.int32) + s
    dz = _gradient(z, top, a, b_smooth, at_label, is_label, w, SMOOTH, WEIGHTED).to(grad.dtype.element_ty)
    tl.store(grad_row + position, dz, mask=whole)
    if TOGETHER:
        if (start < s) | ((end <= start + BLOCK) & (end % per_load != 0)):
            tl.store(grad_row + position, dz, mask=((position >= s) & (position < end)) != whole)


@triton.jit(do_not_specialize=_UNSPECIALISED, do_not_specialize_on_alignment=_UNSPECIALISED)
def short_gradient_kernel(
    grad_loss,  # as in long_gradient_kernel
    logits,
    labels,
    weight,
    weight_sum,
    state,
    grad,
    rows,
    tokens,
    classes,
    logits_batch_stride,
    logits_token_stride,
    labels_batch_stride,
    labels_token_stride,
    grad_batch_stride,
    grad_token_stride,
    shift,
    ignore_index,
    label_smoothing,
    SMOOTH: tl.constexpr,
    WEIGHTED: tl.constexpr,
    ALIGNED: tl.constexpr,  # every row of the logits and of the gradient starts at a multiple of 16 bytes
    WHOLE: tl.constexpr,  # each lane shall have whole rows
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,  # a power of two, at least C
):
    """ROWS rows a program."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    b, t, label, counted, valid = labels_of(
        row, labels, rows, tokens, classes, labels_batch_stride, labels_token_stride, shift, ignore_index
    )
    top, a, b_smooth, at_label = _row_factors(
        row, b, t, counted, valid, label, classes, grad_loss, weight, weight_sum, state, rows,
        grad_batch_stride, grad_token_stride, label_smoothing, SMOOTH, WEIGHTED,
    )  # fmt: skip
    z_row = logits + (b * logits_batch_stride + t * logits_token_stride)
    grad_row = grad + row * classes
    column = tl.arange(0, COLUMNS)[None, :]
    inside = column < classes
    if ALIGNED:
        z_row = tl.multiple_of((z_row.to(tl.int64) // 16 * 16).to(z_row.dtype), 16)
        grad_row = tl.multiple_of((grad_row.to(tl.int64) // 16 * 16).to(grad_row.dtype), 16)
        per_load: tl.constexpr = 128 // logits.dtype.element_ty.primitive_bitwidth
        inside = column // per_load * per_load < classes
    at = column
    if WHOLE:
        at = column * hidden_one(rows)
    z = tl.load(z_row[:, None] + at, mask=counted[:, None] & inside, other=0.0)
    w = z
    if SMOOTH and WEIGHTED:
        w = tl.load(weight + column, mask=inside, other=0.0)
    if SMOOTH:
        b_smooth = b_smooth[:, None]
    is_label = column == label.to(tl.int32)[:, None]
    dz = _gradient(z, top[:, None], a[:, None], b_smooth, at_label[:, None], is_label, w, SMOOTH, WEIGHTED)
    dz = dz.to(grad.dtype.element_ty)
    tl.store(grad_row[:, None] + at, dz, mask=(row < rows)[:, None] & inside)


def loss_backward(
    grad_loss: Tensor,
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    state: Tensor,
    ignore_index: int,
    label_smoothing: float,
    shift: int,
) -> Tensor:
    """The gradient with respect to the logits of what `triton_rows.loss_forward` returned the losses of.

    Args:
        grad_loss: fp32 labels.shape or 0-dim, any strides: the gradient with respect to the losses, or to the loss
            that they were reduced to.
        logits, labels, weight, ignore_index, label_smoothing, shift: as given to `loss_forward`.
        state: what it returned; its last number, the reduction's factor, multiplies grad_loss.

    Returns:
        A new contiguous tensor of the logits' shape and dtype. Rows that are not scored are zeros,
        whatever their logits; rows whose loss is NaN are NaN.

    Cost: one read of the logits and one write; no synchronisation. The logits are copied as in
    `loss_forward`, except that rows need not start at a multiple of 16 bytes.
    """
    grad = torch.empty_like(logits, memory_format=torch.contiguous_format)
    if labels.numel() == 0:
        return grad
    key = (
        layout_key(logits, labels, weight),
        grad_loss.shape,
        grad_loss.stride(),
        grad_loss.is_neg(),
        grad_loss.data_ptr() % 16,
        ignore_index,
        label_smoothing,
        shift,
    )
    plan = _PLANS.get(key)
    z, y, g = logits, labels, grad_loss
    if plan is None:  # or a copy is needed, whose plan is not kept
        z, y = as_rows(unit_class_stride(logits), labels.resolve_neg())
        g = grad_loss.resolve_neg().expand(labels.shape)
        _, g = as_rows(g.unsqueeze(-1), g)
        plan = _planned(z, y, g, grad, weight is not None, ignore_index, label_smoothing, shift)
        here = [a.data_ptr() == b.data_ptr() for a, b in ((z, logits), (y, labels), (g, grad_loss))]
        if logits.is_cuda and all(here):
            _PLANS.keep(key, plan)
    with on_device_of(logits):
        weight_sum = weight.sum() if weight is not None and label_smoothing > 0 else None
        plan(g, z, y, weight, weight_sum, state, grad)
    return grad


# As in `triton_rows`.
_PLANS = Plans()


def _planned(
    z: Tensor,
    y: Tensor,
    g: Tensor,
    grad: Tensor,
    weighted: bool,
    ignore_index: int,
    label_smoothing: float,
    shift: int,
) -> Launch:
    rows, tokens, classes, itemsize = y.numel(), y.shape[1], z.shape[-1], z.element_size()
    options: dict[str, Any] = {"SMOOTH": label_smoothing > 0, "WEIGHTED": weighted, "enable_fp_fusion": False}
    strides = (*z.stride()[:2], *y.stride(), *g.stride())
    last = (shift, ignore_index, label_smoothing)
    together = _start_together(z, grad)
    if classes <= SHORT:
        tile = short_tile(classes, itemsize)
        threads = short_threads(tile["COLUMNS"], itemsize)
        if classes <= 4:  # on an H100 30 us instead of 43 for 2^21 rows of 2; at 7 classes it is slower
            tile, threads = few_classes_tile(tile["COLUMNS"])
        aligned = together and classes * itemsize % 16 == 0 and z.data_ptr() % 16 == 0
        options |= {
            "ALIGNED": aligned,
            "WHOLE": whole_rows(classes, aligned),
            "num_warps": num_warps(threads),
            **tile,
        }
        grid = (triton.cdiv(rows, tile["ROWS"]),)
        return Launch(short_gradient_kernel, grid, (rows, tokens, classes, *strides, *last), options)
    # A row may take up to 16 bytes, less one element, before its first class.
    blocks = triton.cdiv(classes + 16 // itemsize - 1, BLOCK)
    options |= {"TOGETHER": together, "BLOCK": BLOCK, "num_warps": num_warps(_THREADS)}
    numbers = (rows, tokens, classes, blocks, *strides, *last)
    return Launch(long_gradient_kernel, (rows * blocks,), numbers, options)


def whole_rows(classes: int, aligned: bool) -> bool:
    """Whether each lane takes whole rows.

    Its stores of one column lie a row apart: on an H100 2^21 rows of 50 classes take 850 us like that and 390 us where
    lanes share rows, though they issue more.
    """
    return not aligned and classes <= 32


def _start_together(z: Tensor, grad: Tensor) -> bool:
    """Whether each row of (B, T, C) starts as far from a multiple of 16 bytes as its row of contiguous `grad`."""
    tokens, classes = z.shape[1], z.shape[2]
    apart = [(z.data_ptr() - grad.data_ptr()) % 16]
    for size, stride, contiguous in zip(z.shape[:2], z.stride()[:2], (tokens * classes, classes), strict=True):
        if size > 1:
            apart.append((stride - contiguous) * z.element_size() % 16)
    return not any(apart)
