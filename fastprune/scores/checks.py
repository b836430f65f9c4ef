"""One clear error for each thing that can be wrong with the arguments of a score."""

from __future__ import annotations

import torch
from torch import Tensor

from fastprune.scores.definition import METRICS

REDUCTIONS = ("norm", "mean", "sum", "max")

_LABEL_DTYPES = tuple(
    getattr(torch, name) for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
)
_LOGIT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_rows(logits: Tensor, labels: Tensor, ignore_index: int, shift: int) -> None:
    """Raises TypeError or ValueError unless logits are (..., C) and labels (...) that fit them."""
    for name, tensor in (("logits", logits), ("labels", labels)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
        if tensor.layout != torch.strided:
            raise TypeError(f"{name} must be a dense tensor, got layout {tensor.layout}; use .to_dense()")
    if logits.dtype not in _LOGIT_DTYPES:
        raise TypeError(f"logits must be float16, bfloat16, float32 or float64, got {logits.dtype}; use .float()")
    if labels.dtype not in _LABEL_DTYPES:
        raise TypeError(
            f"labels must be integer class indices, got {labels.dtype}; "
            "use .argmax(-1) on one-hot or soft labels, .long() on others"
        )
    if logits.device != labels.device:
        raise ValueError(f"logits are on {logits.device} and labels on {labels.device}; use labels.to(logits.device)")
    _check_shapes(tuple(logits.shape), tuple(labels.shape))
    _check_int("ignore_index", ignore_index)
    _check_int("shift", shift)
    if shift < 0:
        raise ValueError(f"shift must be 0 or more, got {shift}; for causal language models it is 1")
    if shift > 0 and labels.ndim == 0:
        raise ValueError(f"shift={shift} moves along the last dimension of labels, but labels have none")


def _check_shapes(logits: tuple[int, ...], labels: tuple[int, ...]) -> None:
    if not logits:
        raise ValueError("logits must be (..., C), got a 0-dim tensor")
    if logits[-1] == 0:
        raise ValueError(f"logits must have at least one class in their last dimension, got shape {logits}")
    if labels == logits[:-1]:
        return
    if len(logits) > 2 and labels == logits[:1] + logits[2:]:
        raise ValueError(
            f"logits {logits} with labels {labels} look like torch's (N, C, d) layout; classes must be "
            "last: pass logits.movedim(1, -1)"
        )
    raise ValueError(
        f"labels must have shape {logits[:-1]}, that of logits {logits} without the classes in the last "
        f"dimension, got {labels}; if the classes are not last, use logits.movedim"
    )


def _check_int(name: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {value!r}")


def check_metrics(metrics: str | tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """The metrics as a tuple without repeats; raises ValueError for an unknown one or none."""
    names = (metrics,) if isinstance(metrics, str) else tuple(dict.fromkeys(metrics))
    for name in names:
        if name not in METRICS:
            raise ValueError(f"unknown metric {name!r}; choose from {', '.join(METRICS)}")
    if not names:
        raise ValueError(f"metrics is empty; choose from {', '.join(METRICS)}")
    return names


def check_reduce(reduce: str | None, labels: Tensor) -> None:
    """Raises ValueError for an unknown reduction, or one over the tokens of labels that have none."""
    if reduce is None:
        return
    check_reduction(reduce)
    if labels.ndim < 2:
        raise ValueError(
            f"reduce={reduce!r} reduces over the last dimension of labels (B, T), got labels of shape "
            f"{tuple(labels.shape)}; leave reduce=None"
        )


def check_reduction(reduce: str) -> None:
    """Raises ValueError for an unknown reduction."""
    if reduce not in REDUCTIONS:
        raise ValueError(f"unknown reduce {reduce!r}; choose from {', '.join(REDUCTIONS)}")
