"""Who holds which classes, where the classes of every row are spread over the ranks of a group.

A tensor-parallel head gives each rank the logits of some classes of all rows. A part is contiguous, and the parts come
in the order of the ranks. Their sizes may differ. A DTensor says where its parts begin. For plain tensors the ranks
tell each other, and compare their arguments at the same time. So a mistake is one error on all ranks, and not a hang.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, TypeVar

import torch
from torch import Tensor

from fastprune.platform.collectives import (
    Failure,
    collective_device,
    exchange_numbers,
    failure_of,
    joined,
    raise_everywhere,
    world,
)
from fastprune.scores.checks import check_data
from fastprune.scores.labels import class_indices
from fastprune.scores.metrics import kernel_part

if TYPE_CHECKING:
    import torch.distributed as dist

P = ParamSpec("P")
T = TypeVar("T")


def uncompiled(function: Callable[P, T]) -> Callable[P, T]:
    """The function, which torch.compile leaves out of its graphs. What it sends goes between them."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if torch.compiler.is_compiling():  # only then, because importing the compiler takes seconds
            return torch.compiler.disable(function)(*args, **kwargs)
        return function(*args, **kwargs)

    return call


class Parts(NamedTuple):
    """This rank's classes among those of all.

    Attributes:
        group: The ranks that hold the classes of the same rows.
        first_class: The class of column 0 of the local logits.
        classes: How many classes all parts have together.
        sizes: What each rank holds, for messages. Empty where a DTensor knows it.
    """

    group: dist.ProcessGroup | None
    first_class: int
    classes: int
    sizes: tuple[int, ...] = ()


class _Facts(NamedTuple):
    """What a rank tells the others first, as int64."""

    rows: int = 0
    classes: int = 0
    labels: int = 0  # a checksum, or 0 on a GPU, where it would be one more wait
    call: int = 0  # a checksum of the shape and of all arguments that are no tensors
    failure: int = 0  # the fields of `Failure`
    failure_bytes: int = 0


@uncompiled
def agreed(
    logits: Tensor, labels: Tensor, group: dist.ProcessGroup, call: str, check: Callable[[], T], told: object
) -> tuple[T, Parts]:
    """What `check` gives, and this rank's classes. A collective call of the group.

    Args:
        logits: (..., V) of this rank's classes.
        labels: (...) among all classes, the same on all ranks.
        group: What the user gave.
        call: The name of the function that the user called.
        check: Raises if this rank's arguments are wrong.
        told: What must be the same on all ranks. Its repr is compared.

    Raises:
        TypeError: As the next.
        ValueError: The arguments are wrong on some rank or differ between ranks. All ranks raise the same.

    Cost: one all-reduce of 48 bytes a rank. If only NCCL is there, it waits for the device.
    """
    found = joined(group, call)
    device = collective_device(logits.device if isinstance(logits, Tensor) else torch.device("cpu"), found)
    own, checked, error = _prepared(logits, labels, found, check, told)
    facts = [_Facts(*numbers) for numbers in exchange_numbers(own, device, found)]
    raise_everywhere([Failure(f.failure, f.failure_bytes) for f in facts], error, device, found)
    assert checked is not None
    _check_agreement(facts)
    sizes = tuple(f.classes for f in facts)
    return checked[0], Parts(found, sum(sizes[: world(found)[0]]), sum(sizes), sizes)


def _prepared(
    logits: Tensor, labels: Tensor, group: dist.ProcessGroup | None, check: Callable[[], T], told: object
) -> tuple[_Facts, tuple[T] | None, Exception | None]:
    """This rank's facts, what `check` gave, and its error. It never raises, because the others would wait for it."""
    try:
        checked = check()
        check_data(logits=logits, labels=labels)
        y = class_indices(labels.detach())
        checksum = zlib.crc32(y.contiguous().numpy().data) if y.is_cpu else 0
        call = zlib.crc32(repr((tuple(labels.shape), str(logits.dtype), told)).encode())
        return _Facts(y.numel(), logits.shape[-1], checksum, call), (checked,), None
    except Exception as error:
        kind, size = failure_of(error, group)
        return _Facts(failure=kind, failure_bytes=size), None, error


def _check_agreement(facts: list[_Facts]) -> None:
    """Raises the same error on all ranks if their arguments differ."""
    same: list[tuple[str, list[int], str]] = [
        ("the number of rows", [f.rows for f in facts], "each rank has some classes of all rows"),
        ("labels", [f.labels for f in facts], "they are those of all classes, and not counted from a rank's first"),
        ("the shape, dtype, metrics and options", [f.call for f in facts], "make the same call on all of them"),
    ]
    for name, on, fix in same:
        other = next((rank for rank, value in enumerate(on) if value != on[0]), 0)
        if other:
            values = f", got {on[0]} on rank 0 and {on[other]} on rank {other}" if name.endswith("rows") else ""
            where = "" if values else f", and ranks 0 and {other} differ"
            raise ValueError(f"{name} must be the same on all ranks of group{values}{where}; {fix}")


def check_offered(labels: Tensor, names: tuple[str, ...], multi_label: bool = False) -> None:
    """Raises ValueError for what needs whole rows of logits."""
    if multi_label or (isinstance(labels, Tensor) and labels.is_floating_point()):
        kind = "multi_label=True" if multi_label else "a probability for each class"
        raise ValueError(f"{kind} is not offered where the classes are spread over ranks; {_GATHER}")
    others = [name for name in names if name not in kernel_part(names)]
    if others:
        raise ValueError(f"metric {others[0]!r} is computed from whole rows, and each rank has some classes; {_GATHER}")


def check_offered_loss(logits: Tensor, weight: Tensor | None) -> None:
    """Raises for a loss whose rows have other sums, or whose gradient has no kernel."""
    if weight is not None:
        raise ValueError(f"weight is not offered where the classes are spread over ranks; leave it out, or {_GATHER}")
    if isinstance(logits, Tensor) and logits.dtype == torch.float64:
        raise TypeError(
            "the loss of float64 logits is not offered where the classes are spread over ranks; use logits.float()"
        )


_GATHER = "gather the classes and call without group"
