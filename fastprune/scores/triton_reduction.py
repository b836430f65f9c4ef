"""The loss of all rows from the loss of each, on the GPU: a small kernel in place of torch's sum, count and division.

    "sum":   loss = sum_i l_i
    "mean":  loss = sum_i l_i / sum_i w_i,  with w_i the weight of the label of row i

A program adds up ROWS rows. If there are more rows, each program leaves its two sums, and one more program adds those.
Sums are fp32, in an order that depends on the number of rows alone.

Bytes: 4 a row for its loss, and 8 for its label if a mean is wanted.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastprune.platform.gpu import num_warps, on_device_of
from fastprune.platform.triton_launch import Launch, Plans
from fastprune.scores.layout import as_rows
from fastprune.scores.options import LossOptions
from fastprune.scores.triton_labels import labels_of

# A program adds up ROWS rows. It loads _BLOCK of them at once, or as many of the programs' sums.
ROWS = 8192
_BLOCK = 1024
_THREADS = 256


@triton.jit
def _store_loss(
    loss,  # OUT () fp32
    factor,  # OUT () fp32, written if MEAN
    total,
    weights,
    MEAN: tl.constexpr,
):
    """Writes the reduced loss, and of a mean its factor."""
    if MEAN:
        tl.store(loss, total / weights)
        tl.store(factor, 1.0 / weights)
    else:
        tl.store(loss, total)


@triton.jit
def sum_kernel(
    losses,  # IN  (B, T) fp32 contiguous
    labels,  # IN  (B, T) int64
    weight,  # IN  (C,) fp32, or None for ones
    sums,  # OUT (2, programs) fp32: sums of losses and of weights, or None if there is one program
    loss,  # OUT () fp32, or None if there are several programs
    state,  # INOUT (3 B T + 1,) fp32: the last number becomes 1 / (sum of weights) if MEAN and there is one program
    rows,  # B * T
    tokens,  # T
    classes,  # C
    labels_batch_stride,  # in elements, as the next
    labels_token_stride,
    shift,  # row (b, t) is scored against label (b, t + shift)
    ignore_index,
    MEAN: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Each program sums over ROWS rows."""
    lane = tl.arange(0, BLOCK)
    first = tl.program_id(0).to(tl.int64) * ROWS
    total = tl.zeros((BLOCK,), tl.float32)
    weights = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, ROWS, BLOCK):
        row = first + start + lane
        total += tl.load(losses + row, mask=row < rows, other=0.0)
        if MEAN:
            _, _, label, counted, valid = labels_of(
                row, labels, rows, tokens, classes, labels_batch_stride, labels_token_stride, shift, ignore_index
            )
            if weight is None:
                weights += tl.where(counted, 1.0, 0.0)
            else:
                weights += tl.load(weight + label, mask=valid, other=0.0)
    if sums is None:
        _store_loss(loss, state + rows + rows + rows, tl.sum(total), tl.sum(weights), MEAN)
    else:
        tl.store(sums + tl.program_id(0), tl.sum(total))
        if MEAN:
            tl.store(sums + tl.num_programs(0) + tl.program_id(0), tl.sum(weights))


@triton.jit
def last_sum_kernel(
    sums,  # IN  (2, programs) fp32, what sum_kernel wrote
    loss,  # OUT () fp32
    state,  # INOUT (3 B T + 1,) fp32: the last number becomes 1 / (sum of weights) if MEAN
    programs,
    rows,  # B * T
    MEAN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Sums over the programs of sum_kernel."""
    lane = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    weights = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, programs, BLOCK):
        at = start + lane
        total += tl.load(sums + at, mask=at < programs, other=0.0)
        if MEAN:
            weights += tl.load(sums + programs + at, mask=at < programs, other=0.0)
    _store_loss(loss, state + rows + rows + rows, tl.sum(total), tl.sum(weights), MEAN)


def reduced(
    losses: Tensor, state: Tensor, labels: Tensor, weight: Tensor | None, classes: int, options: LossOptions
) -> Tensor:
    """The loss of all rows, and the factor of a mean as the last number of the state.

    Args:
        losses: What `triton_rows.loss_forward` returned for these labels, this weight and these options.
        state: What it returned with them. The last number is written if a mean is wanted.
        labels: (...) int64.
        weight: (C,) fp32, or None.
        classes: C.
        options: Its reduction is "mean" or "sum".

    Returns:
        0-dim fp32. The mean over no row is NaN.

    Cost: one launch, two from ROWS + 1 rows on, and no synchronisation.
    """
    if losses.numel() == 0:
        return losses.sum() if options.reduction == "sum" else losses.mean()
    loss = torch.empty((), dtype=torch.float32, device=losses.device)
    key = (
        losses.shape,
        losses.get_device(),
        labels.stride(),
        labels.is_neg(),
        labels.data_ptr() % 16,
        None if weight is None else weight.data_ptr() % 16,
        classes,
        options,
    )
    plan = _PLANS.get(key)
    y = labels
    if plan is None:  # a new layout, or a tensor that needs a copy: its plan is not kept
        y = as_rows(losses.unsqueeze(-1), labels.resolve_neg())[1]
        plan = _planned(y, classes, options)
        if losses.is_cuda and y.data_ptr() == labels.data_ptr():
            _PLANS.keep(key, plan)
    with on_device_of(losses):
        if len(plan) == 1:
            plan[0](losses, y, weight, None, loss, state)
        else:
            sums = torch.empty((2, triton.cdiv(losses.numel(), ROWS)), dtype=torch.float32, device=losses.device)
            plan[0](losses, y, weight, sums, None, state)
            plan[1](sums, loss, state)
    return loss


# The key is the layout of losses, labels and weight, and the options. Tensors that need a copy have no plan here.
_PLANS = Plans()


def _planned(y: Tensor, classes: int, options: LossOptions) -> tuple[Launch, ...]:
    rows = y.numel()
    programs = triton.cdiv(rows, ROWS)
    constants: dict[str, Any] = {
        "MEAN": options.reduction == "mean",
        "BLOCK": _BLOCK,
        "num_warps": num_warps(_THREADS),
        "enable_fp_fusion": False,
    }
    numbers = (rows, y.shape[1], classes, *y.stride(), options.shift, options.ignore_index)
    first = Launch(sum_kernel, (programs,), numbers, constants | {"ROWS": ROWS if rows > _BLOCK else _BLOCK})
    return (first,) if programs == 1 else (first, Launch(last_sum_kernel, (1,), (programs, rows), constants))
