"""One clear error for each thing that can be wrong with a linear head and its hidden states."""

from __future__ import annotations

import torch
from torch import Tensor

from fastprune.scores.checks import LABEL_DTYPES, LOGIT_DTYPES
from fastprune.scores.linear_head import LinearHead


def check_head(hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> None:
    """Raises unless these are dense tensors that can be multiplied."""
    parts = {"hidden": hidden, "weight": weight, "labels": labels} | ({} if bias is None else {"bias": bias})
    for name, part in parts.items():
        if not isinstance(part, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(part).__name__}")
        if part.is_nested or part.layout != torch.strided:
            raise TypeError(
                f"{name} must be a dense tensor, got layout {part.layout}; use .to_padded_tensor or .to_dense"
            )
        if name != "labels" and part.dtype not in LOGIT_DTYPES:
            raise TypeError(f"{name} must be float16, bfloat16, float32 or float64, got {part.dtype}; use .float()")
        if part.device != hidden.device:
            raise ValueError(f"{name} is on {part.device} and hidden on {hidden.device}; use {name}.to(hidden.device)")
    if hidden.ndim < 2 or weight.ndim != 2 or hidden.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"hidden must be (..., H) and weight (V, H), got {tuple(hidden.shape)} and {tuple(weight.shape)}; "
            "weight is that of the model's output embedding, model.get_output_embeddings().weight"
        )
    if weight.shape[0] < 2:
        raise ValueError(
            f"weight {tuple(weight.shape)} has V = {weight.shape[0]} classes, and a loss needs at least 2; for a head "
            "that says yes or no use fastprune.score(..., multi_label=True)"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must have shape ({weight.shape[0]},), one a class, got {tuple(bias.shape)}")


def check_states(hidden: Tensor, labels: Tensor, head: LinearHead, shift: int) -> None:
    """Raises unless the labels fit the states."""
    if labels.dtype not in LABEL_DTYPES:
        raise TypeError(f"labels must be integer class indices, got {labels.dtype}; use .long()")
    if labels.shape != hidden.shape[:-1]:
        raise ValueError(
            f"labels must have shape {tuple(hidden.shape[:-1])}, one for each state of hidden {tuple(hidden.shape)}, "
            f"got {tuple(labels.shape)}"
        )
    if head.bias is not None and head.bias.dtype != hidden.dtype:
        raise ValueError(f"bias is {head.bias.dtype} and hidden {hidden.dtype}; use bias.to(hidden.dtype)")
    if shift < 0:
        raise ValueError(f"shift must be 0 or more, got {shift}; for causal language models it is 1")


def check_row_weight(row_weight: Tensor | None, labels: Tensor) -> None:
    """Raises unless there is a weight for each row, or none at all."""
    if row_weight is None:
        return
    if not isinstance(row_weight, Tensor) or not row_weight.is_floating_point():
        kind = getattr(row_weight, "dtype", type(row_weight).__name__)
        raise TypeError(f"row_weight must be a floating point torch.Tensor, got {kind}")
    if isinstance(labels, Tensor) and row_weight.shape != labels.shape:
        raise ValueError(
            f"row_weight must have the labels' shape {tuple(labels.shape)}, one for each row, got "
            f"{tuple(row_weight.shape)}; a weight an example becomes one a row by .unsqueeze(-1).expand_as(labels)"
        )
    if isinstance(labels, Tensor) and row_weight.device != labels.device:
        raise ValueError(f"row_weight is on {row_weight.device} and labels on {labels.device}; move it there")
