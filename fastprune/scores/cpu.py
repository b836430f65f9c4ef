"""Row scores and cross-entropy on the CPU: from torch tensors to the C++ kernels in csrc/scores, and back."""

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
    """Scores of every row by the C++ kernel, with the contract of `definition.row_scores`.

    Args:
        logits: (..., C) float16, bfloat16, float32 or float64 on the CPU, any strides.
        labels: (...) int64 on the CPU, any strides.
        metrics: As in `definition.row_scores`.
        ignore_index: As in `definition.row_scores`.
        shift: As in `definition.row_scores`.
        threads: torch.get_num_threads() by default. The result does not depend on it.

    Returns:
        One contiguous fp32 tensor of labels.shape for each metric, with a relative error of at most 4e-6.

    Raises:
        IndexError: A label that is used is neither ignore_index nor in [0, C).

    Cost: one read of the logits and one exponential for each, or two with entropy. The logits are copied only if their
    class dimension is not contiguous, or if the row dimensions before the last do not collapse to one.
    """
    scores = {metric: _empty_row_values(labels) for metric in metrics}
    if labels.numel() == 0:
        return scores
    bad = _core.row_scores(_rows(logits, labels, ignore_index, shift, threads), metric_addresses(scores))
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
        metrics: As in `row_scores`.
        ignore_index: As in `row_scores`.
        label_smoothing: In [0, 1], as torch's.
        shift: As in `row_scores`.
        reduction: "none", "mean" (over the weights of the labels) or "sum".
        threads: As in `row_scores`.

    Returns:
        The loss in fp32, of labels.shape or 0-dim. Then the state that `loss_backward` needs, 3 floats a row and one
        more. Then the scores.

    Raises:
        IndexError: As in `row_scores`.
    """
    state = torch.empty(3 * labels.numel() + 1, dtype=torch.float32, device="cpu")
    loss = _empty_row_values(labels) if reduction == "none" else state.new_empty(())
    scores = {metric: _empty_row_values(labels) for metric in metrics}
    bad = _core.cross_entropy_forward(
        _rows(logits, labels, ignore_index, shift, threads),
        metric_addresses(scores),
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
    """The gradient of the loss with respect to the logits, with one read of the logits and one write.

    Args:
        grad_loss: fp32 of labels.shape or 0-dim, the gradient with respect to the loss.
        state: What `loss_forward` returned for the same arguments.
        logits: As in `loss_forward`.
        labels: As in `loss_forward`.
        weight: As in `loss_forward`.
        ignore_index: As in `loss_forward`.
        label_smoothing: As in `loss_forward`.
        shift: As in `loss_forward`.

    Returns:
        A contiguous tensor like the logits. It is 0 in rows that are not scored.
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
    # It takes half the time of torch.empty(labels.shape, ...), which matters for a small batch.
    return torch.empty_like(labels, dtype=torch.float32, memory_format=torch.contiguous_format)


def _rows(logits: Tensor, labels: Tensor, ignore_index: int, shift: int, threads: int | None) -> tuple:
    """What csrc/bindings.cpp calls rows, and the tensors that it points into. These must outlive the call."""
    z, y, layout, label_strides = row_strides(unit_class_stride(logits), labels.resolve_neg())
    if not labels.numel():
        layout = (0, *layout[1:])  # otherwise a kernel would visit up to 2^40 batches without a token
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


def metric_addresses(scores: dict[str, Tensor]) -> list[int]:
    """Where each metric of the kernels goes, in their order. It is 0 for a metric that is not wanted."""
    return [scores[metric].data_ptr() if metric in scores else 0 for metric in KERNEL_METRICS]


def _bad_label(labels: Tensor, flat: int, classes: int, ignore_index: int) -> str:
    position: list[int] = []
    for size in reversed(labels.shape):
        position.insert(0, flat % size)
        flat //= size
    return bad_label(labels, position, classes, ignore_index)
