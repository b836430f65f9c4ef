"""One clear error for each thing that can be wrong with the arguments of a score or a loss."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor

from fastprune.scores.layout import extent
from fastprune.scores.metrics import are_of_kernel, of_rows
from fastprune.scores.options import LOSS_REDUCTIONS, LossOptions
from fastprune.scores.reduce import REDUCTIONS

LABEL_DTYPES = tuple(
    getattr(torch, name) for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
)
LOGIT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_rows(logits: Tensor, labels: Tensor, ignore_index: int, shift: int) -> None:
    """Raises TypeError or ValueError unless logits are (..., C) and labels (...) that fit them."""
    _check_tensors(logits, labels)
    if labels.dtype not in LABEL_DTYPES:
        raise TypeError(
            f"labels must be integer class indices {tuple(logits.shape[:-1])} or floating point probabilities "
            f"{tuple(logits.shape)}, got {labels.dtype} {tuple(labels.shape)}; use .long() on class indices"
        )
    shape = tuple(logits.shape)
    if not shape or tuple(labels.shape) != shape[:-1] or not 0 < shape[-1] < 2**31:
        _explain_shapes(shape, tuple(labels.shape))
    if shift < 0:
        raise ValueError(f"shift must be 0 or more, got {shift}; for causal language models it is 1")
    if shift > 0 and labels.ndim == 0:
        raise ValueError(f"shift={shift} moves along the last dimension of labels, but labels have none")


def check_soft(logits: Tensor, targets: Tensor, ignore_index: int, shift: int) -> None:
    """Raises unless targets are a probability for each class of each row."""
    _check_targets(logits, targets)
    if ignore_index >= 0:
        raise ValueError(
            f"ignore_index={ignore_index} needs class indices, as in torch; to leave out rows of probabilities, "
            "drop them from logits and labels"
        )
    if not targets.is_floating_point():
        raise TypeError(f"probabilities must be floating point, got {targets.dtype}; use .to(logits.dtype)")
    if shift:
        raise ValueError(f"shift={shift} needs class indices; move the probabilities yourself: targets[:, {shift}:]")


def check_multi_label(logits: Tensor, targets: Tensor, ignore_index: int, shift: int) -> None:
    """Raises unless targets are a yes or no for each label of each row."""
    _check_targets(logits, targets)
    if targets.is_complex():
        raise TypeError(f"labels must be real, got {targets.dtype}")
    if shift:
        raise ValueError(f"shift={shift} needs class indices; with multi_label=True leave it 0")


def check_loss(logits: Tensor, weight: Tensor | None, options: LossOptions, soft: bool) -> None:
    """Raises unless weight, reduction and label smoothing are what torch's cross_entropy takes."""
    check_reduction_name(options.reduction)
    if not 0.0 <= options.label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing must be a number from 0 to 1, got {options.label_smoothing!r}")
    if weight is None or not isinstance(logits, Tensor) or not logits.ndim:
        return
    if not isinstance(weight, Tensor) or not weight.is_floating_point():
        raise TypeError(f"weight must be a floating point torch.Tensor, got {getattr(weight, 'dtype', type(weight))}")
    if weight.requires_grad and not soft and torch.is_grad_enabled():
        raise ValueError("the loss has no gradient with respect to weight, as torch's; pass weight.detach()")
    if weight.shape != logits.shape[-1:]:
        raise ValueError(f"weight must have shape ({logits.shape[-1]},), one a class, got {tuple(weight.shape)}")
    if weight.device != logits.device:
        raise ValueError(f"weight is on {weight.device} and logits on {logits.device}; use weight.to(logits.device)")


def check_reduction_name(reduction: str) -> None:
    """Raises ValueError for a reduction of the loss that does not exist."""
    if reduction not in LOSS_REDUCTIONS:
        raise ValueError(f"unknown reduction {reduction!r}; choose from {', '.join(LOSS_REDUCTIONS)}")


def check_data(**tensors: Tensor | None) -> None:
    """Raises ValueError for a tensor whose memory is not there. A kernel would read it all the same.

    FSDP frees the storage of parameters like that. The tensors must be neither fake nor transformed.

    Cost: 0.6 us each.
    """
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        last = tensor.numel() if tensor.is_contiguous() else extent(tensor)
        needed = (tensor.storage_offset() + last) * tensor.element_size()
        if last and (tensor.untyped_storage().nbytes() < needed or tensor.data_ptr() == 0):
            raise ValueError(
                f"{name} {tuple(tensor.shape)} has no data: its storage was freed, or it is a stand-in (a zero tensor, "
                "a functional tensor); pass a tensor that holds its values"
            )


def _check_tensors(logits: Tensor, labels: Tensor) -> None:
    for name, tensor in (("logits", logits), ("labels", labels)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
        if tensor.is_nested:
            raise TypeError(f"{name} must be a dense tensor, got a nested one; use .to_padded_tensor(...)")
        if tensor.layout != torch.strided:
            raise TypeError(f"{name} must be a dense tensor, got layout {tensor.layout}; use .to_dense()")
    if logits.dtype not in LOGIT_DTYPES:
        raise TypeError(f"logits must be float16, bfloat16, float32 or float64, got {logits.dtype}; use .float()")
    if logits.device != labels.device:
        raise ValueError(f"logits are on {logits.device} and labels on {labels.device}; use labels.to(logits.device)")


def _check_targets(logits: Tensor, targets: Tensor) -> None:
    _check_tensors(logits, targets)
    if not logits.ndim or targets.shape != logits.shape or not logits.shape[-1]:
        raise ValueError(
            f"targets must have the shape of the logits (..., C), C >= 1: got {tuple(targets.shape)} and "
            f"{tuple(logits.shape)}; a binary head of shape (B,) needs .unsqueeze(-1) on both"
        )


def _explain_shapes(logits: tuple[int, ...], labels: tuple[int, ...]) -> None:
    if not logits:
        raise ValueError("logits must be (..., C), got a 0-dim tensor")
    if logits[-1] == 0:
        raise ValueError(f"logits must have at least one class in their last dimension, got shape {logits}")
    if logits[-1] >= 2**31:
        raise ValueError(f"logits must have fewer than 2^31 classes, got {logits[-1]}")
    if len(logits) > 2 and labels == logits[:1] + logits[2:]:
        raise ValueError(
            f"logits {logits} with labels {labels} look like torch's (N, C, d) layout; classes must be "
            "last: pass logits.movedim(1, -1)"
        )
    raise ValueError(
        f"labels must have shape {logits[:-1]}, that of logits {logits} without the classes in the last "
        f"dimension, got {labels}; if the classes are not last, use logits.movedim"
    )


def as_int(name: str, value: Any) -> int:
    """The value as an int of 64 bits. NumPy's integers and 0-dim tensors are taken as torch takes them."""
    if type(value) is not int:
        number = getattr(value, "ndim", 0) == 0 and hasattr(value, "__index__")
        if not number or isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")):
            raise TypeError(f"{name} must be an int, got {value!r}")
        try:
            value = operator.index(value)
        except TypeError:
            raise TypeError(f"{name} must be an int, got {value!r}") from None
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{name} must fit 64 bits, got {value}")
    return value


def as_float(name: str, value: Any) -> float:
    """The value as a float. NumPy's numbers and 0-dim tensors are taken too."""
    if type(value) is float:
        return value
    if getattr(value, "ndim", 0) or isinstance(value, (str, bytes, bool)) or not hasattr(value, "__float__"):
        raise ValueError(f"{name} must be a number, got {value!r}")
    return float(value)


def check_labels(labels: Tensor, classes: int, ignore_index: int, shift: int) -> None:
    """Raises IndexError for the first label that is used and out of range. Waits for the labels' device."""
    labels = labels.to(torch.int64)
    used = labels if not shift else labels[..., shift:]
    bad = ((used < 0) | (used >= classes)) & (used != ignore_index)
    if not bool(bad.any()):
        return
    position = bad.nonzero()[0].tolist()
    if position:
        position[-1] += shift
    raise IndexError(bad_label(labels, position, classes, ignore_index))


def bad_label(labels: Tensor, position: list[int], classes: int, ignore_index: int) -> str:
    """The message about a label that is out of range."""
    return (
        f"labels{position or ''} is {int(labels[tuple(position)])}, but logits have {classes} classes: "
        f"labels must lie in [0, {classes - 1}] or equal ignore_index={ignore_index}"
    )


def check_metrics(metrics: str | tuple[str, ...] | list[str], *, per_class: bool = False) -> tuple[str, ...]:
    """The metrics as a tuple without repeats.

    Args:
        metrics: A name, or several.
        per_class: The labels are a target per class. Not every metric can be computed against that.

    Raises:
        TypeError: The metrics are no names.
        ValueError: A metric is unknown, or there is none.
    """
    if not isinstance(metrics, (str, tuple, list)):
        raise TypeError(
            f"metrics must be a name or a tuple of names, got {metrics!r}; choose from {', '.join(of_rows())}"
        )
    names = (metrics,) if isinstance(metrics, str) else tuple(dict.fromkeys(metrics))
    if not names:
        raise ValueError(f"metrics is empty; choose from {', '.join(of_rows())}")
    if not per_class and are_of_kernel(names):  # the usual case, and quick to see
        return names
    there, available = of_rows(), of_rows("multi_label" if per_class else None)
    for name in names:
        if name not in there:
            raise ValueError(f"unknown metric {name!r}; choose from {', '.join(there)}")
        if name not in available:
            raise ValueError(f"metric {name!r} needs class indices; with a target per class: {', '.join(available)}")
    return names


def check_reduce(reduce: str | None, rows: tuple[int, ...]) -> None:
    """Raises ValueError for an unknown reduction, or one over the tokens of rows that have none."""
    if reduce is None:
        return
    check_reduction(reduce)
    if len(rows) < 2:
        raise ValueError(
            f"reduce={reduce!r} reduces over the last dimension of rows (B, T), got rows of shape {tuple(rows)}; "
            "leave reduce=None"
        )


def check_reduction(reduce: str) -> None:
    """Raises ValueError for an unknown reduction."""
    if reduce not in REDUCTIONS:
        raise ValueError(f"unknown reduce {reduce!r}; choose from {', '.join(REDUCTIONS)}")
