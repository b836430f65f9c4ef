"""torch.distributed for the rest of the package: ranks, the device of collectives, and one error for all ranks.

``group`` is a process group, or None for that of all ranks.  Without torch.distributed, or before it is initialised,
there is one process, and nothing is sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")
_CPU = torch.device("cpu")
_ERRORS = (TypeError, ValueError, RuntimeError)
"""The types that one rank's error may have on the others.  An error of any other type becomes the last one."""


def is_initialized() -> bool:
    """Return whether there is a process group.  It may have only one process."""
    return dist.is_available() and dist.is_initialized()


def world(group: dist.ProcessGroup | None = None) -> tuple[int, int]:
    """Return (rank, world_size) of the group.  Without a group it is (0, 1).

    >>> world()
    (0, 1)
    """
    return (dist.get_rank(group), dist.get_world_size(group)) if is_initialized() else (0, 1)


def joined(group: dist.ProcessGroup | None, call: str) -> dist.ProcessGroup | None:
    """Return the group of a collective call, or None for one process alone.

    Args:
        group: what the user gave.  None stands for all ranks.
        call: the name of the function that the user called.

    Raises:
        TypeError: it is no process group.
        ValueError: torch.distributed is not initialised, or this rank is no member.
    """
    if not is_initialized():
        if group is not None:
            raise ValueError(
                "group was given, but torch.distributed is not initialised; call init_process_group or leave it out"
            )
        return None
    if group is None:
        return dist.group.WORLD
    if group == dist.GroupMember.NON_GROUP_MEMBER:  # type: ignore[comparison-overlap]
        raise ValueError(f"this rank is not a member of group; call {call} on the members of group only")
    if not isinstance(group, dist.ProcessGroup):
        raise TypeError(f"group must be a torch.distributed.ProcessGroup, got {type(group).__name__}")
    return group


# --- which device ------------------------------------------------------------------------------------------------


def device_types(group: dist.ProcessGroup | None = None) -> list[str] | None:
    """Return the device types that the group's backends work on.  None without a group, because any type works then."""
    if not is_initialized():
        return None
    return sorted(pair.partition(":")[0] for pair in dist.get_backend_config(group).split(","))


def collective_device(wanted: torch.device = _CPU, group: dist.ProcessGroup | None = None) -> torch.device:
    """Return where the group's collectives work: the same type of device on every rank.

    A rank with nothing to send has the same type.  It is the CPU if the backends can use it, because that waits for no
    device.  Otherwise it is ``wanted``, if that is of the type that all agree on.
    """
    types = device_types(group)
    if types is None or "cpu" in types:
        return _CPU
    return wanted if wanted.type == types[0] else torch.device(types[0])


# --- what is sent ------------------------------------------------------------------------------------------------


def all_reduce(tensor: Tensor, group: dist.ProcessGroup | None = None, op: str = "SUM") -> None:
    """Reduce in place over the ranks."""
    if is_initialized():
        dist.all_reduce(tensor, op=getattr(dist.ReduceOp, op), group=group)


def exchange_numbers(
    own: Sequence[int], device: torch.device, group: dist.ProcessGroup | None = None
) -> list[list[int]]:
    """Return the numbers of every rank, by rank.  All ranks have the same count.

    Cost: one all-reduce of 8 bytes for each number and rank.
    """
    rank, ranks = world(group)
    table = torch.zeros(ranks, len(own), dtype=torch.int64, device=device)
    table[rank] = torch.tensor(own, dtype=torch.int64, device=device)
    all_reduce(table, group)
    return table.tolist()


def gather_rows(rows: Tensor, device: torch.device) -> list[Tensor]:
    """Return every rank's (R, M) rows, where R may differ between ranks.  A collective call on ``device``."""
    rows = rows.to(device)
    _, world_size = world()
    own = torch.tensor([len(rows)], device=device)
    sizes = [torch.empty_like(own) for _ in range(world_size)]
    dist.all_gather(sizes, own)
    counts = [int(size) for size in sizes]
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(world_size)]
    dist.all_gather(parts, padded)
    return [part[:count] for part, count in zip(parts, counts, strict=True)]


def gather_alike(tensor: Tensor, group: dist.ProcessGroup | None = None) -> Tensor:
    """Return (ranks, *shape): the tensors of all ranks, which have one shape and dtype.  A collective call.

    They travel on their own device if a backend of the group takes it.  The result lies there, too.
    """
    types = device_types(group)
    if types is None:
        return tensor.unsqueeze(0)
    device = tensor.device if tensor.device.type in types else collective_device(tensor.device, group)
    own = tensor.to(device).contiguous()
    parts = own.new_empty(world(group)[1], *own.shape)
    dist.all_gather(list(parts.unbind()), own, group=group)
    return parts.to(tensor.device)


def broadcast(tensor: Tensor) -> Tensor:
    """Return rank 0's values of a tensor that has the same shape and dtype on all ranks."""
    device = collective_device(tensor.device)
    sent = tensor.to(device, copy=True)
    dist.broadcast(sent, src=0)
    return sent.to(tensor.device)


def gather_objects(value: T) -> list[T]:
    """The values of all ranks, by rank.  A collective call that pickles the values."""
    _, world_size = world()
    if world_size == 1:
        return [value]
    values: list[Any] = [None] * world_size
    dist.all_gather_object(values, value)
    return values


def broadcast_object(value: T) -> T:
    """The value of rank 0.  A collective call that pickles the value."""
    if world()[1] == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def launcher_store(address: str, port: int, wait: timedelta) -> dist.Store:
    """The key-value store of torchrun, which stays alive when the processes are started again.

    Args:
        address: address of the process that holds the store.
        port: the port on which it listens.
        wait: how long to wait for it, and for its keys.

    Raises:
        RuntimeError: the process that holds it has ended.
    """
    return dist.TCPStore(address, port, is_master=False, timeout=wait, wait_for_workers=False)


# --- one error for all -------------------------------------------------------------------------------------------


class FailedElsewhereError(RuntimeError):
    """Another process has failed, and it says why.  So this process need not repeat it."""

    said_elsewhere = True


class Failure(NamedTuple):
    """What a rank tells the others about its error, before they ask for the text.  Without an error both are 0."""

    kind: int = 0  # 1 + index in _ERRORS
    size: int = 0  # of the text, in bytes


def failure_of(error: Exception | None, group: dist.ProcessGroup | None = None) -> Failure:
    """Return the numbers to exchange for this rank's error, or for none."""
    if error is None:
        return Failure()
    kind = next((i for i, known in enumerate(_ERRORS) if isinstance(error, known)), _ERRORS.index(RuntimeError))
    return Failure(1 + kind, len(_report(error, group)))


def raise_everywhere(
    failures: Sequence[Failure],
    own: Exception | None,
    device: torch.device,
    group: dist.ProcessGroup | None = None,
    *,
    what: str | None = None,
) -> None:
    """Raise on every rank if one of them failed, because the others would wait for it until a timeout.

    A collective call, with the ``failures`` that all have exchanged.

    Args:
        failures: the failures of all ranks, by rank.
        own: this rank's error, or None.
        device: where the group's collectives work.
        group: the process group.
        what: names what failed.  A rank that failed raises its own error, and the others raise a
            `FailedElsewhereError`.  With None all ranks raise the error of the first rank that failed.
    """
    failed = [rank for rank, failure in enumerate(failures) if failure.kind]
    if not failed:
        return
    if own is not None and not is_initialized():
        raise own
    first = failures[failed[0]]
    text = torch.zeros(first.size, dtype=torch.uint8, device=device)
    if own is not None and world(group)[0] == failed[0]:
        text.copy_(torch.tensor(list(_report(own, group)), dtype=torch.uint8, device=device))
    all_reduce(text, group)
    said = bytes(text.tolist()).decode()
    if what is None:
        raise _ERRORS[first.kind - 1](said) from own
    if own is not None:
        raise own
    raise FailedElsewhereError(f"{what} failed on rank {failed}; {said}")


@contextmanager
def together(what: str) -> Iterator[None]:
    """Raise on every rank if the body raises on one of them.  A collective call at its end.

    With one process there is nothing to do.

    Raises:
        FailedElsewhereError: the body failed on another rank.  That rank raises its own exception.
    """
    if world()[1] == 1:
        yield
        return
    error: Exception | None = None
    try:
        yield
    except Exception as raised:
        error = raised
    device = collective_device()
    failures = [Failure(*numbers) for numbers in exchange_numbers(failure_of(error), device)]
    raise_everywhere(failures, error, device, what=what)


def _report(error: Exception, group: dist.ProcessGroup | None) -> bytes:
    """Return the text that the other ranks get.  It is never empty."""
    kind = "" if isinstance(error, (TypeError, ValueError)) else f"{type(error).__name__}: "
    return f"rank {world(group)[0]}: {kind}{error}".encode(errors="replace")
