"""A fast path on the CPU: one score of a batch whose layout has been checked before.

Checking a small batch costs several times as much as scoring it. Most checks depend on shapes, strides and dtypes
alone, and a training loop repeats the same ones. The rest can change under the same layout: the memory of the tensors,
a pending negation, or something that traces or transforms the call. That is checked every time.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

import fastprune._core as _core
from fastprune.scores import ops
from fastprune.scores.cpu import DTYPES
from fastprune.scores.layout import extent, row_strides
from fastprune.scores.metrics import KERNEL_METRICS

LIMIT = 4096
"""How many layouts are remembered. When the limit is reached, all of them are forgotten."""


class _Layout(NamedTuple):
    """What a call passes to the kernel besides addresses, and how many bytes the kernel reads."""

    before: tuple[object, ...]
    after: tuple[int, ...]
    logits_bytes: int
    labels_bytes: int
    metric: int


_CHECKED: dict[tuple[object, ...], _Layout] = {}


def scores_again(logits: Tensor, labels: Tensor, metric: str, ignore_index: int, shift: int) -> Tensor | None:
    """The score of every row, fp32 of labels.shape. None if the call needs all checks."""
    if not _is_plain_call(logits, labels, ignore_index, shift):
        return None
    layout = _CHECKED.get(_key(logits, labels, metric, ignore_index, shift))
    if layout is None or logits.is_neg() or labels.is_neg():
        return None
    if (
        logits.untyped_storage().nbytes() - logits.storage_offset() * logits.element_size() < layout.logits_bytes
        or labels.untyped_storage().nbytes() - labels.storage_offset() * 8 < layout.labels_bytes
    ):
        return None
    z, y = logits.data_ptr(), labels.data_ptr()
    if z == 0 or y == 0:  # a placeholder without memory, such as a zero tensor
        return None
    out = torch.empty_like(labels, dtype=torch.float32, memory_format=torch.contiguous_format)
    addresses = [0] * len(KERNEL_METRICS)
    addresses[layout.metric] = out.data_ptr()
    bad = _core.row_scores((z, *layout.before, y, *layout.after, torch.get_num_threads()), addresses)
    return out if bad < 0 else None  # a label is out of range, and the general path says which


def remember(logits: Tensor, labels: Tensor, metric: str, ignore_index: int, shift: int) -> None:
    """Remember a layout that has just been checked and scored, if it needs no copy."""
    if metric not in KERNEL_METRICS or not _is_plain_call(logits, labels, ignore_index, shift):
        return
    if labels.dtype != torch.int64 or not labels.numel():
        return
    if logits.stride(-1) != 1 or labels.ndim not in (1, 2):
        return
    _, _, (batch, tokens, *strides), label_strides = row_strides(logits, labels)
    if len(_CHECKED) >= LIMIT:
        _CHECKED.clear()
    _CHECKED[_key(logits, labels, metric, ignore_index, shift)] = _Layout(
        (DTYPES[logits.dtype], batch, tokens, *strides),
        (*label_strides, min(shift, tokens), ignore_index),
        extent(logits) * logits.element_size(),
        extent(labels) * 8,
        KERNEL_METRICS.index(metric),
    )


def _is_plain_call(logits: Tensor, labels: Tensor, ignore_index: int, shift: int) -> bool:
    """Whether these are ordinary CPU tensors and ints, and nothing traces or transforms the call."""
    return (
        isinstance(logits, Tensor)
        and isinstance(labels, Tensor)
        and logits.is_cpu  # first, because the fast path has no use for a GPU tensor
        and labels.is_cpu
        and type(ignore_index) is int
        and type(shift) is int
        and ops.direct(logits, labels)
        and logits.layout is torch.strided
        and labels.layout is torch.strided
        and not (logits.is_nested or labels.is_nested)
    )


def _key(logits: Tensor, labels: Tensor, metric: str, ignore_index: int, shift: int) -> tuple[object, ...]:
    return (
        metric,
        ignore_index,
        shift,
        logits.dtype,
        logits.shape,
        logits.stride(),
        labels.dtype,
        labels.shape,
        labels.stride(),
    )
