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

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastprune.gpu import num_warps
from fastprune.scores.layout import as_rows, unit_class_stride
from fastprune.scores.triton_math import LOG2_E, hidden_one
from fastprune.scores.triton_rows import SHORT, labels_of, short_threads, short_tile

# 32 logits a thread, all under way at once; the label and statistics cost some 200 instructions a thread.
BLOCK = 4096
_THREADS = 128


@triton.jit
def _row_factors(
    row,
    counted,
    valid,
    label,
    classes,
    row_grads,
    weight,
    weight_sum,
    stats,
    rows,
    label_smoothing,
    SMOOTH: tl.constexpr,
    WEIGHTED: tl.constexpr,
):
    """(M, a / Z, b, dz_y) of rows; NaN for rows whose label is out of range, all 0 for those not counted."""
    g = tl.load(row_grads + row, mask=counted, other=0.0)
    top = tl.load(stats + row, mask=counted, other=0.0)
    inverse = tl.load(stats + (row + rows), mask=counted, other=0.0)
    missing = tl.load(stats + (row + rows + rows), mask=counted, other=0.0)
    hard = g
    w_label = 1.0
    if WEIGHTED:
        w_label = tl.load(weight + label, mask=valid, other=0.0)
        hard = g * w_label
    b = hard
    at_label = -hard * missing
    a = hard
    if SMOOTH:
        b = g * (label_smoothing / classes)
        if WEIGHTED:
            spread = b * tl.load(weight_sum)
        else:
            spread = g * label_smoothing
        hard = hard * (1.0 - label_smoothing)
        a = hard + spread
        # W p_y - w_y, with p_y = 1 - missing.
        at_label = (spread - b * w_label) - a * missing
    return top, tl.where(counted != valid, float("nan"), a * inverse), b, tl.where(counted, at_label, 0.0)


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
    row_grads,  # IN  (B, T) fp32 contiguous: d(final) / d(unreduced loss)
    logits,  # IN  (B, T, C) fp16/bf16/fp32, class stride 1
    labels,  # IN  (B, T) int64
    weight,  # IN  (C,) fp32; not touched unless WEIGHTED
    weight_sum,  # IN  () fp32; not touched unless WEIGHTED and SMOOTH
    stats,  # IN  (3, B, T) fp32 contiguous: M, 1 / Z, 1 - p_y
    grad,  # OUT (B, T, C) contiguous, the logits' dtype
    rows,  # B * T
    tokens,  # T
    classes,  # C
    blocks,  # programs a row
    logits_batch_stride,  # in elements, as the next three
    logits_token_stride,
    labels_batch_stride,
    labels_token_stride,
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
        row, counted, valid, label, classes, row_grads, weight, weight_sum, stats, rows, label_smoothing,
        SMOOTH, WEIGHTED,
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
    row_grads,  # as in long_gradient_kernel
    logits,
    labels,
    weight,
    weight_sum,
    stats,
    grad,
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
    SMOOTH: tl.constexpr,
    WEIGHTED: tl.constexpr,
    ALIGNED: tl.constexpr,  # every row of the logits and of the gradient starts at a multiple of 16 bytes
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,  # a power of two, at least C
):
    """ROWS rows a program."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    b, t, label, counted, valid = labels_of(
        row, labels, rows, tokens, classes, labels_batch_stride, labels_token_stride, shift, ignore_index
    )
    top, a, b_smooth, at_label = _row_factors(
        row, counted, valid, label, classes, row_grads, weight, weight_sum, stats, rows, label_smoothing,
        SMOOTH, WEIGHTED,
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
    if not ALIGNED and COLUMNS <= 128:  # longer rows issue as much either way
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
    row_grads: Tensor,
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    stats: Tensor,
    ignore_index: int,
    label_smoothing: float,
    shift: int,
) -> Tensor:
    """The gradient with respect to the logits of what `triton_rows.loss_forward` returned the losses of.

    Args:
        row_grads: fp32 labels.shape, the gradient of each row's unreduced loss.
        logits, labels, weight, ignore_index, label_smoothing, shift: as given to `loss_forward`.
        stats: what it returned.

    Returns:
        A new contiguous tensor of the logits' shape and dtype. Rows that are not scored are zeros,
        whatever their logits; rows whose loss is NaN are NaN.

    Cost: one read of the logits and one write; no synchronisation. The logits are copied as in
    `loss_forward`, except that rows need not start at a multiple of 16 bytes.
    """
    grad = torch.empty(logits.shape, dtype=logits.dtype, device=logits.device)
    rows = labels.numel()
    if rows == 0:
        return grad
    z, y = as_rows(unit_class_stride(logits), labels)
    tokens, classes = z.shape[1], z.shape[2]
    smooth = label_smoothing > 0
    weighted = weight is not None
    options = {"SMOOTH": smooth, "WEIGHTED": weighted, "enable_fp_fusion": False}
    with torch.cuda.device_of(logits):
        pointers = (
            row_grads.contiguous(),
            z,
            y,
            stats if weight is None else weight.contiguous(),
            stats if weight is None or not smooth else weight.sum(),
            stats,
            grad,
        )
        layout = (
            z.stride(0),
            z.stride(1),
            y.stride(0),
            y.stride(1),
            shift,
            ignore_index,
            label_smoothing,
        )
        together = _start_together(z, grad)
        if classes <= SHORT:
            itemsize = z.element_size()
            tile = short_tile(classes, itemsize)
            short_gradient_kernel[(triton.cdiv(rows, tile["ROWS"]),)](
                *pointers,
                rows,
                tokens,
                classes,
                *layout,
                ALIGNED=together and classes * itemsize % 16 == 0 and z.data_ptr() % 16 == 0,
                num_warps=num_warps(short_threads(tile["COLUMNS"], itemsize)),
                **tile,
                **options,
            )
        else:
            # A row may take up to 16 bytes, less one element, before its first class.
            blocks = triton.cdiv(classes + 16 // z.element_size() - 1, BLOCK)
            long_gradient_kernel[(rows * blocks,)](
                *pointers,
                rows,
                tokens,
                classes,
                blocks,
                *layout,
                TOGETHER=together,
                BLOCK=BLOCK,
                num_warps=num_warps(_THREADS),
                **options,
            )
    return grad


def _start_together(z: Tensor, grad: Tensor) -> bool:
    """Whether each row of (B, T, C) starts as far from a multiple of 16 bytes as its row of contiguous `grad`."""
    tokens, classes = z.shape[1], z.shape[2]
    apart = [(z.data_ptr() - grad.data_ptr()) % 16]
    for size, stride, contiguous in zip(z.shape[:2], z.stride()[:2], (tokens * classes, classes), strict=True):
        if size > 1:
            apart.append((stride - contiguous) * z.element_size() % 16)
    return not any(apart)
