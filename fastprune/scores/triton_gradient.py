"""The gradient of the cross-entropy on the GPU: Triton kernels that read and write each row once.

Algebra. g is the gradient of a row's unreduced loss, and p_i = e^(z_i - M) / Z comes from the statistics of the forward
pass. s is the label smoothing over C classes, w are the weights (ones if there are none), and W is their sum:

    dz_i = g [ (1 - s) w_y (p_i - [i = y]) + (s / C) (W p_i - w_i) ]  =  a p_i - b w_i,   i != y

At the label p_y - 1 is not formed by subtraction. The forward pass left 1 - p_y, which keeps all its digits where the
model is confident. The arithmetic is fp32 and stays in registers. The logits are not written.

Short rows go several to a program, as a tile (`triton_tiles`). Rows of more than SHORT classes are cut into blocks, a
program each. In a block each thread loads and stores 16 bytes at a time, even if rows start at any address (rows of
50,257 16-bit classes do). One condition must hold: a row of logits and its gradient start at the same distance from a
multiple of 16 bytes. Rows of contiguous logits meet it. Elements are then stored one by one only at those ends of a row
that share 16 bytes with a neighbour row.

Bytes: rows * C * itemsize read and as many written, and 24 for each row and block for its label and statistics. A row
that is not counted is not read, and zeros are written for it.
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
from fastprune.scores.options import LossOptions
from fastprune.scores.triton_labels import labels_of
from fastprune.scores.triton_math import LOG2_E
from fastprune.scores.triton_tiles import (
    SHORT,
    aligned_down,
    columns_of,
    few_classes_tile,
    short_threads,
    short_tile,
)

# 32 logits a thread, which are all loaded at the same time. The label and statistics cost some 200 instructions a
# thread.
BLOCK = 4096
_THREADS = 128
# If rows are not aligned, each lane takes whole rows up to this number of columns. In longer rows the lanes' stores of
# one column lie too far apart: on an H100 2^21 rows of 50 classes then take 850 us. If lanes share rows they take 390
# us, although that is more instructions.
_WHOLE = tl.constexpr(32)
# Arguments whose values Triton's launcher must not look at. It would compile anew for some of them.
_UNSPECIALISED = ["logits", "grad", "logits_batch_stride", "logits_token_stride"]


@triton.jit
def _row_factors(
    row,
    b,
    t,
    counted,
    valid,
    label,
    classes,
    grad_loss,  # as in the kernels, as all that follow
    weight,
    weight_sum,
    state,
    rows,
    grad_batch_stride,
    grad_token_stride,
    label_smoothing,
):
    """(M, a / Z, b, dz_y) of rows: NaN for rows whose label is out of range, and 0 for those not counted."""
    g = tl.load(grad_loss + (b * grad_batch_stride + t * grad_token_stride), mask=counted, other=0.0)
    # The mean over no row has an infinite factor.
    g = tl.where(counted, g * tl.load(state + rows + rows + rows), 0.0)
    top = tl.load(state + row, mask=counted, other=0.0)
    inverse = tl.load(state + (row + rows), mask=counted, other=0.0)
    missing = tl.load(state + (row + rows + rows), mask=counted, other=0.0)
    hard = g
    w_label = 1.0
    if weight is not None:
        w_label = tl.load(weight + label, mask=valid, other=0.0)
        hard = g * w_label
    each = hard
    at_label = -hard * missing
    a = hard
    if label_smoothing is not None:
        each = g * (label_smoothing / classes)
        if weight is not None:
            spread = each * tl.load(weight_sum)
        else:
            spread = g * label_smoothing
        hard = hard * (1.0 - label_smoothing)
        a = hard + spread
        # W p_y - w_y, with p_y = 1 - missing.
        at_label = (spread - each * w_label) - a * missing
    return top, tl.where(counted != valid, float("nan"), a * inverse), each, tl.where(counted, at_label, 0.0)


@triton.jit
def _gradient(z, top, a, b, w, is_label, at_label):
    """dz of logits z. Their weights w are None for ones, and b is None without smoothing."""
    dz = a * tl.exp2((z.to(tl.float32) - top) * LOG2_E)
    if b is not None:
        if w is not None:
            dz = dz - b * w
        else:
            dz = dz - b
    return tl.where(is_label, at_label, dz)


@triton.jit(do_not_specialize=_UNSPECIALISED, do_not_specialize_on_alignment=_UNSPECIALISED)
def long_gradient_kernel(
    grad_loss,  # IN  (B, T) fp32, any strides: d(final) / d(loss)
    logits,  # IN  (B, T, C) fp16/bf16/fp32, class stride 1
    labels,  # IN  (B, T) int64
    weight,  # IN  (C,) fp32, or None for ones
    weight_sum,  # IN  () fp32, or None without a weight or without smoothing
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
    label_smoothing,  # None for none
    TOGETHER: tl.constexpr,  # a row and its gradient start equally far from a multiple of 16 bytes
    BLOCK: tl.constexpr,
):
    """Each program takes one block of a row."""
    program = tl.program_id(0)
    row = (program // blocks).to(tl.int64)
    start = program % blocks * BLOCK
    b, t, label, counted, valid = labels_of(
        row, labels, rows, tokens, classes, labels_batch_stride, labels_token_stride, shift, ignore_index
    )
    top, a, b_smooth, at_label = _row_factors(
        row, b, t, counted, valid, label, classes, grad_loss, weight, weight_sum, state, rows,
        grad_batch_stride, grad_token_stride, label_smoothing,
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
        s = (z_row.to(tl.int64) % 16 * per_load // 16).to(tl.int32)
        z_row = aligned_down(z_row)
        grad_row = aligned_down(grad_row)
        end = classes + s
        readable = tl.where(counted, end, 0)
        # Constant over 16 bytes, or it would split the loads and stores.
        granule = position // per_load * per_load
        wanted = granule < readable
        whole = (granule >= s) & (granule + per_load <= end)
    z = tl.load(z_row + position, mask=wanted, other=0.0)
    w = None
    if label_smoothing is None:
        b_smooth = None
    elif weight is not None:
        w = tl.load(weight + (position - s), mask=(position >= s) & (position < end), other=0.0)
    is_label = position == label.to(tl.int32) + s
    dz = _gradient(z, top, a, b_smooth, w, is_label, at_label).to(grad.dtype.element_ty)
    tl.store(grad_row + position, dz, mask=whole)
    if TOGETHER:
        if (start < s) | ((end <= start + BLOCK) & (end % per_load != 0)):
            tl.store(grad_row + position, dz, mask=((position >= s) & (position < end)) != whole)


@triton.jit(do_not_specialize=_UNSPECIALISED, do_not_specialize_on_alignment=_UNSPECIALISED)
def short_gradient_kernel(
    grad_loss,  # IN  (B, T) fp32, any strides: d(final) / d(loss)
    logits,  # IN  (B, T, C) fp16/bf16/fp32, class stride 1
    labels,  # IN  (B, T) int64
    weight,  # IN  (C,) fp32, or None for ones
    weight_sum,  # IN  () fp32, or None without a weight or without smoothing
    state,  # IN  (3 B T + 1,) fp32, as in long_gradient_kernel
    grad,  # OUT (B, T, C) contiguous, the logits' dtype
    rows,  # as in long_gradient_kernel, as the rest of the numbers
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
    ALIGNED: tl.constexpr,  # every row of the logits and of the gradient starts at a multiple of 16 bytes
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,  # a power of two, at least C
):
    """Each program takes ROWS rows."""
    PER_LOAD: tl.constexpr = 128 // logits.dtype.element_ty.primitive_bitwidth
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    b, t, label, counted, valid = labels_of(
        row, labels, rows, tokens, classes, labels_batch_stride, labels_token_stride, shift, ignore_index
    )
    top, a, b_smooth, at_label = _row_factors(
        row, b, t, counted, valid, label, classes, grad_loss, weight, weight_sum, state, rows,
        grad_batch_stride, grad_token_stride, label_smoothing,
    )  # fmt: skip
    z_row = logits + (b * logits_batch_stride + t * logits_token_stride)
    grad_row = grad + row * classes
    if ALIGNED:
        z_row = aligned_down(z_row)
        grad_row = aligned_down(grad_row)
    column, inside, at = columns_of(classes, rows, PER_LOAD, ALIGNED, not ALIGNED and COLUMNS <= _WHOLE, COLUMNS)
    z = tl.load(z_row[:, None] + at, mask=counted[:, None] & inside, other=0.0)
    w = None
    if label_smoothing is None:
        b_smooth = None
    else:
        b_smooth = b_smooth[:, None]
        if weight is not None:
            w = tl.load(weight + column, mask=inside, other=0.0)
    is_label = column == label.to(tl.int32)[:, None]
    dz = _gradient(z, top[:, None], a[:, None], b_smooth, w, is_label, at_label[:, None]).to(grad.dtype.element_ty)
    tl.store(grad_row[:, None] + at, dz, mask=(row < rows)[:, None] & inside)


def loss_backward(
    grad_loss: Tensor, state: Tensor, logits: Tensor, labels: Tensor, weight: Tensor | None, options: LossOptions
) -> Tensor:
    """The gradient of the losses that `triton_rows.loss_forward` returned, with respect to the logits.

    Args:
        grad_loss: fp32 labels.shape or 0-dim, any strides. The gradient with respect to the losses, or to the loss that
            they were reduced to.
        state: What `loss_forward` returned. Its last number, the factor of the reduction, multiplies grad_loss.
        logits: What `loss_forward` was given, like the next three.
        labels: (...) int64.
        weight: (C,) fp32, or None.
        options: Its metrics and reduction are not looked at.

    Returns:
        A new contiguous tensor of the logits' shape and dtype. Rows that are not scored are zeros, whatever their
        logits. Rows whose loss is NaN are NaN.

    Cost: one read of the logits, one write and no synchronisation. The logits are copied as in `loss_forward`, except
    that rows need not start at a multiple of 16 bytes.
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
        options,
    )
    plan = _PLANS.get(key)
    z, y, g = logits, labels, grad_loss
    if plan is None:  # a new layout, or a tensor that needs a copy: its plan is not kept
        z, y = as_rows(unit_class_stride(logits), labels.resolve_neg())
        g = grad_loss.resolve_neg().expand(labels.shape)
        _, g = as_rows(g.unsqueeze(-1), g)
        plan = _planned(z, y, g, grad, options)
        here = [a.data_ptr() == b.data_ptr() for a, b in ((z, logits), (y, labels), (g, grad_loss))]
        if logits.is_cuda and all(here):
            _PLANS.keep(key, plan)
    with on_device_of(logits):
        weight_sum = weight.sum() if weight is not None and options.label_smoothing > 0 else None
        plan(g, z, y, weight, weight_sum, state, grad)
    return grad


# The key is the layout of the tensors, and the options. Tensors that need a copy have no plan here.
_PLANS = Plans()


def _planned(z: Tensor, y: Tensor, g: Tensor, grad: Tensor, options: LossOptions) -> Launch:
    rows, tokens, classes, itemsize = y.numel(), y.shape[1], z.shape[-1], z.element_size()
    strides = (*z.stride()[:2], *y.stride(), *g.stride())
    smoothing = options.label_smoothing if options.label_smoothing > 0 else None
    last = (options.shift, options.ignore_index, smoothing)
    constants: dict[str, Any] = {"enable_fp_fusion": False}
    together = _start_together(z, grad)
    if classes <= SHORT:
        tile = short_tile(classes, itemsize)
        threads = short_threads(tile["COLUMNS"], itemsize)
        if classes <= 4:  # on an H100 30 us instead of 43 for 2^21 rows of 2, but at 7 classes it is slower
            tile, threads = few_classes_tile(tile["COLUMNS"])
        aligned = together and classes * itemsize % 16 == 0 and z.data_ptr() % 16 == 0
        constants |= {"ALIGNED": aligned, **tile, "num_warps": num_warps(threads)}
        grid = (triton.cdiv(rows, tile["ROWS"]),)
        return Launch(short_gradient_kernel, grid, (rows, tokens, classes, *strides, *last), constants)
    # A row may take up to 16 bytes, less one element, before its first class.
    blocks = triton.cdiv(classes + 16 // itemsize - 1, BLOCK)
    constants |= {"TOGETHER": together, "BLOCK": BLOCK, "num_warps": num_warps(_THREADS)}
    numbers = (rows, tokens, classes, blocks, *strides, *last)
    return Launch(long_gradient_kernel, (rows * blocks,), numbers, constants)


def _start_together(z: Tensor, grad: Tensor) -> bool:
    """Whether each row of (B, T, C) starts as far from a multiple of 16 bytes as its row of contiguous `grad`."""
    tokens, classes = z.shape[1], z.shape[2]
    apart = [(z.data_ptr() - grad.data_ptr()) % 16]
    for size, stride, contiguous in zip(z.shape[:2], z.stride()[:2], (tokens * classes, classes), strict=True):
        if size > 1:
            apart.append((stride - contiguous) * z.element_size() % 16)
    return not any(apart)
