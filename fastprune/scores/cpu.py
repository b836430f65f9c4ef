"""Row scores and cross-entropy on the CPU: torch tensors to the C++ kernels (csrc/scores/row_scores.h) and back."""

from __future__ import annotations

import os
import warnings

import torch
from torch import Tensor

import fastprune._core as _core
from fastprune.scores.checks import bad_label
from fastprune.scores.layout import row_strides, unit_class_stride
from fastprune.scores.metrics import KERNEL_METRICS

DTYPES = {
    torch.float16: _core.DType.float16,
    torch.bfloat16: _core.DType.bfloat16,
    torch.float32: _core.DType.float32,
    torch.float64: _core.DType.float64,
}

_REDUCTIONS = {"none": 0, "mean": 1, "sum": 2}

_wanted = os.environ.get("FASTPRUNE_ISA")
if _wanted and _wanted not in _core.instruction_sets():
    warnings.warn(
        f"FASTPRUNE_ISA={_wanted} is not available here, using {_core.instruction_set()}; "
        f"choose from {', '.join(_core.instruction_sets())}",
        RuntimeWarning,
        stacklevel=2,
    )


def row_scores(
    logits: Tensor,
    labels: Tensor,
    metrics: tuple[str, ...],
    ignore_index: int,
    shift: int,
    *,
    threads: int | None = None,
) -> dict[str, Tensor]:
    """Scores of every row by the C++ kernel; the contract of `definition.row_scores`, and:

    Args:
        logits: (..., C) float16, bfloat16, float32 or float64 on the CPU, any strides.
        labels: (...) int64 on the CPU, any strides.
        threads: torch.get_num_threads() by default. The result does not depend on it.

    Returns:
        One contiguous fp32 tensor of labels.shape for each metric, relative error <= 4e-6.

    Raises:
        IndexError: a label that is used is neither ignore_index nor in [0, C).

    Cost: one read of the logits, one exponential each, two with entropy. The logits are copied only if their
    class dimension is not contiguous or the row dimensions before the last do not collapse to one.
    """
    scores = {metric: _empty_row_values(labels) for metric in metrics}
    if labels.numel() == 0:
        return scores
    bad = _core.row_scores(_rows(logits, labels, ignore_index, shift, threads), _addresses(scores))
    if bad >= 0:
        raise IndexError(_bad_label(labels, bad, logits.shape[-1], ignore_index))
    return scores


def loss_forward(
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    metrics: tuple[str, ...],
    ignore_index: int,
    label_smoothing: float,
    shift: int,
    reduction: str,
    *,
    threads: int | None = None,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Cross-entropy and scores of every row, in one read of the logits.

    Args:
        logits: (..., C) float16, bfloat16 or float32 on the CPU, any strides.
        labels: (...) int64 on the CPU, any strides.
        weight: (C,) contiguous fp32, or None.
        reduction: "none", "mean" (over the weights of the labels) or "sum".
        The rest as in `row_scores`.

    Returns:
        The loss in fp32, labels.shape or 0-dim. The state that `loss_backward` needs: 3 floats a row and one
        more. The scores.

    Raises: as `row_scores`.
    """
    state = torch.empty(3 * labels.numel() + 1, dtype=torch.float32, device="cpu")
    loss = _empty_row_values(labels) if reduction == "none" else state.new_empty(())
    scores = {metric: _empty_row_values(labels) for metric in metrics}
    bad = _core.cross_entropy_forward(
        _rows(logits, labels, ignore_index, shift, threads),
        _addresses(scores),
        loss.data_ptr(),
        state.data_ptr(),
        0 if weight is None else weight.data_ptr(),
        label_smoothing,
        _REDUCTIONS[reduction],
    )
    if bad >= 0:
        raise IndexError(_bad_label(labels, bad, logits.shape[-1], ignore_index))
    return loss, state, scores


def loss_backward(
    grad_loss: Tensor,
    state: Tensor,
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    shift: int,
) -> Tensor:
    """The gradient of the loss with respect to the logits: one read of them, one write.

    Args:
        grad_loss: fp32, labels.shape or 0-dim: the gradient with respect to the loss.
        state: as `loss_forward` returned it for the same arguments.

    Returns:
        A contiguous tensor like the logits, 0 in rows that are not scored.
    """
    grad = torch.empty_like(logits, memory_format=torch.contiguous_format)
    batch_stride = token_stride = 0
    grad_loss = grad_loss.resolve_neg()
    if grad_loss.ndim:
        grad_loss = grad_loss if grad_loss.ndim <= 2 else grad_loss.flatten(0, -2)
        token_stride = grad_loss.stride(-1)
        batch_stride = grad_loss.stride(0) if grad_loss.ndim == 2 else 0
    _core.cross_entropy_backward(
        _rows(logits, labels, ignore_index, shift, None),
        state.data_ptr(),
        0 if weight is None else weight.data_ptr(),
        label_smoothing,
        grad_loss.data_ptr(),
        batch_stride,
        token_stride,
        grad.data_ptr(),
    )
    return grad


def _empty_row_values(labels: Tensor) -> Tensor:
    # Half the price of torch.empty(labels.shape, ...), which for a small batch counts.
    return torch.empty_like(labels, dtype=torch.float32, memory_format=torch.contiguous_format)


def _rows(logits: Tensor, labels: Tensor, ignore_index: int, shift: int, threads: int | None) -> tuple:
    """What csrc/bindings.cpp calls rows, with the tensors it points into, which must outlive the call."""
    z, y, layout, label_strides = row_strides(unit_class_stride(logits), labels.resolve_neg())
    if not labels.numel():
        layout = (0, *layout[1:])  # else a kernel would walk over 2^40 batches of no token
    threads = torch.get_num_threads() if threads is None else threads
    dtype = DTYPES[z.dtype]
    return (
        z.data_ptr(),
        dtype,
        *layout,
        y.data_ptr(),
        *label_strides,
        min(shift, layout[1]),
        ignore_index,
        threads,
        z,
        y,
    )


def _addresses(scores: dict[str, Tensor]) -> list[int]:
    return [scores[metric].data_ptr() if metric in scores else 0 for metric in KERNEL_METRICS]


def _bad_label(labels: Tensor, flat: int, classes: int, ignore_index: int) -> str:
    position: list[int] = []
    for size in reversed(labels.shape):
        position.insert(0, flat % size)
        flat //= size
    return bad_label(labels, position, classes, ignore_index)
