"""Runs the job on one process or many.  The first creates, locks, prints and reports, and all of them train.

Where one fails, one says what went wrong.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import timedelta
from typing import TypeVar

import torch

from fastprune.platform.collectives import (
    FailedElsewhereError,
    broadcast_object,
    is_initialized,
    launcher_store,
    world,
)

T = TypeVar("T")
TURN = timedelta(seconds=5)
"""How long a process without an error of its own waits for the one that has one."""


def launched() -> tuple[int, int]:
    """Return (rank, world_size) that torchrun or accelerate has given this process, also before `join`."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def join() -> None:
    """Join the processes that torchrun or accelerate has started; nothing happens if this is the only one."""
    if launched()[1] > 1 and not is_initialized():
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available())
    elif _several_wanted():
        tell(
            "note: accelerate launch --cpu starts one process, whatever --num_processes says; "
            "torchrun --nproc-per-node starts several"
        )


def _several_wanted() -> bool:
    """Return whether accelerate was told of several processes that it has not started.

    Those of a CPU it leaves to MPI.
    """
    names = os.environ.keys()
    mpi = any(name.endswith(("COMM_WORLD_SIZE", "PMI_SIZE")) for name in names)
    wanted = os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_ADDR" in names
    return wanted and "WORLD_SIZE" not in names and not mpi


def first() -> bool:
    """Return whether this process is the one that creates, locks, prints and reports."""
    return world()[0] == 0


def tell(text: str) -> None:
    """Print a line on standard error, from the first process."""
    if first():
        print(text, file=sys.stderr, flush=True)


@contextmanager
def of_first(context: AbstractContextManager[T]) -> Iterator[T]:
    """Enter ``context`` in the first process alone, and give all what it gives.

    Raises:
        FailedElsewhereError: it failed there.
    """
    if not first():
        given = broadcast_object(None)
        if given is None:
            raise FailedElsewhereError("failed in the first process")
        yield given[0]
        return
    with ExitStack() as stack:
        try:
            value = stack.enter_context(context)
        except BaseException:
            broadcast_object(None)
            raise
        broadcast_object((value,))  # type: ignore[arg-type]
        yield value


@contextmanager
def voice(*, wanted: bool) -> Iterator[bool]:
    """Give True to one process, the first to ask, which may then say what is wrong.  The others wait until it has.

    Otherwise torchrun could end that process in the middle of its sentence.  It ends all once the first is gone.

    Args:
        wanted: False for a process that has nothing to say.
    """
    # torchrun keeps the store over restarts.
    said = f"fastprune said {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    try:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = launcher_store(address, port, TURN)
        mine = wanted and store.add(f"{said} by", 1) == 1
    except (KeyError, ValueError, RuntimeError):
        # The process that holds the store has ended, or there never was one: the first speaks.
        yield wanted and launched()[0] == 0
        return
    yield mine
    with suppress(RuntimeError):
        if mine:
            store.set(said, "yes")
        else:
            store.wait([said], TURN)
