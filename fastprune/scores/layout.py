"""How logits and labels of any rank are laid out for a kernel: as (B, T, C) and (B, T) views."""

from __future__ import annotations

from torch import Tensor


def as_rows(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The logits (..., T, C) and labels (..., T) as (B, T, C) and (B, T).

    0-dim labels become B = T = 1, and 1-dim labels B = 1. The results are views, unless there are more than two label
    dimensions whose strides do not collapse.
    """
    if labels.ndim == 0:
        return logits.reshape(1, 1, -1), labels.reshape(1, 1)
    if labels.ndim == 1:
        return logits.unsqueeze(0), labels.unsqueeze(0)
    return logits.flatten(0, -3), labels.flatten(0, -2)


def row_strides(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, tuple[int, ...], tuple[int, ...]]:
    """The result of `as_rows` as numbers. Making a view costs a microsecond, as much as scoring a small batch.

    Returns:
        The two tensors whose addresses to take, then (B, T, C, batch stride, token stride) of the logits, then the two
        strides of the labels.
    """
    if labels.ndim == 1:
        tokens, classes = logits.shape
        return logits, labels, (1, tokens, classes, 0, logits.stride(0)), (0, labels.stride(0))
    if labels.ndim != 2:
        logits, labels = as_rows(logits, labels)
    return logits, labels, (*logits.shape, *logits.stride()[:2]), labels.stride()


def unit_class_stride(logits: Tensor) -> Tensor:
    """The logits. They are copied only if the class dimension is not contiguous in memory."""
    if logits.is_contiguous() and not logits.is_neg():  # first, because it is the usual case
        return logits
    logits = logits.resolve_neg()
    return logits if logits.stride(-1) == 1 or logits.shape[-1] == 1 else logits.contiguous()


def extent(tensor: Tensor) -> int:
    """The number of elements from the first to the last one in memory, or 0 for an empty tensor."""
    if not tensor.numel():
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def layout_key(logits: Tensor, labels: Tensor, weight: Tensor | None) -> tuple[object, ...]:
    """Everything that the choice of a kernel depends on. The tensors' shapes must match.

    Two calls with the same key differ in values and addresses alone. Their addresses have the same remainder modulo 16
    bytes.
    """
    return (
        logits.get_device(),
        logits.dtype,
        logits.shape,
        logits.stride(),
        labels.stride(),
        logits.is_neg(),
        labels.is_neg(),
        logits.data_ptr() % 16,
        labels.data_ptr() % 16,
        None if weight is None else weight.data_ptr() % 16,
    )
