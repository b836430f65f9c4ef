"""Row scores on the CPU: torch tensors to the C++ kernel (csrc/row_scores.h) and back."""

from __future__ import annotations

import torch
from torch import Tensor

import fastprune._core as _core
from fastprune.scores.layout import as_rows, unit_class_stride

_DTYPES = {
    torch.float16: _core.DType.float16,
    torch.bfloat16: _core.DType.bfloat16,
    torch.float32: _core.DType.float32,
    torch.float64: _core.DType.float64,
}


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

    Cost: one read of the logits, one exponential each. The logits are copied only if their class
    dimension is not contiguous or their leading dimensions do not collapse to one.
    """
    scores = {metric: torch.empty(labels.shape, dtype=torch.float32) for metric in metrics}
    if labels.numel() == 0:
        return scores
    z, y = as_rows(unit_class_stride(logits), labels)
    bad = _core.row_scores(
        logits=z.data_ptr(),
        dtype=_DTYPES[z.dtype],
        batch=z.shape[0],
        tokens=z.shape[1],
        classes=z.shape[2],
        logits_batch_stride=z.stride(0),
        logits_token_stride=z.stride(1),
        labels=y.data_ptr(),
        labels_batch_stride=y.stride(0),
        labels_token_stride=y.stride(1),
        shift=shift,
        ignore_index=ignore_index,
        el2n=scores["el2n"].data_ptr() if "el2n" in scores else 0,
        loss=scores["loss"].data_ptr() if "loss" in scores else 0,
        threads=torch.get_num_threads() if threads is None else threads,
    )
    if bad >= 0:
        raise IndexError(_bad_label(labels, bad, z.shape[2], ignore_index))
    return scores


def _bad_label(labels: Tensor, flat: int, classes: int, ignore_index: int) -> str:
    position = [int(i) for i in torch.unravel_index(torch.tensor(flat), labels.shape)] if labels.ndim else []
    return (
        f"labels{position or ''} is {int(labels[tuple(position)])}, but logits have {classes} classes: "
        f"labels must lie in [0, {classes - 1}] or equal ignore_index={ignore_index}"
    )
