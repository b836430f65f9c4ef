"""Lets only one process write into a folder, and makes new folders that no other process gets."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastprune.errors import UsageError

LOCK = ".lock"


def new_folder(wanted: Path) -> Path:
    """Make a folder of that name.  If the name is taken, -2, -3, … is added to it."""
    wanted.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("unreachable")


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the folder's lock.  The system releases it when the process ends, for whatever reason.

    The folder must exist.  If the file system has no locks, no lock is held.

    Raises:
        UsageError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # not on this system
        yield
        return
    path = folder / LOCK
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = _is_file(path, handle)  # or the holder has just taken it away, and another may have made it anew
        except BlockingIOError:
            free = False
        except OSError:  # no locks on this file system
            free = True
        if not free:
            raise UsageError(
                f"{folder}: another process of fastprune is writing there; wait for it, or choose another --out"
            )
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _is_file(path: Path, handle: int) -> bool:
    return path.exists() and os.path.samestat(path.stat(), os.fstat(handle))
