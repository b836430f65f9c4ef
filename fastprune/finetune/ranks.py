"""One process or many: the first creates, locks, prints and reports; all of them train."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist

from fastprune.collectives import world
from fastprune.errors import UsageError

T = TypeVar("T")


class FailedElsewhereError(UsageError):
    """Another process has said what is wrong; this one says nothing."""

    said_elsewhere = True


def join() -> None:
    """Join the processes that torchrun or accelerate has started; nothing happens if this is the only one."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available())


def first() -> bool:
    """Whether this process is the one that creates, locks, prints and reports."""
    return world()[0] == 0


def tell(text: str) -> None:
    """A line on standard error, from the first process."""
    if first():
        print(text, file=sys.stderr, flush=True)


def shared(value: T) -> T:
    """What the first process gives; a collective call."""
    if world()[1] == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


@contextmanager
def of_first(context: AbstractContextManager[T]) -> Iterator[T]:
    """Enter ``context`` in the first process alone; all get what it gives.

    Raises:
        FailedElsewhereError: it failed there.
    """
    if not first():
        given = shared(None)
        if given is None:
            raise FailedElsewhereError("failed in the first process")
        yield given[0]
        return
    with ExitStack() as stack:
        try:
            value = stack.enter_context(context)
        except BaseException:
            shared(None)
            raise
        shared((value,))  # type: ignore[arg-type]
        yield value


def gathered(value: T) -> list[T]:
    """What each process gives, in their order; a collective call."""
    size = world()[1]
    if size == 1:
        return [value]
    values: list[T] = [value] * size
    dist.all_gather_object(values, value)
    return values
