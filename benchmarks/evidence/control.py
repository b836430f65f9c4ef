"""One runner at a time, and a way to pause it from outside: a lock file that holds its process number."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = "runner.lock"


@contextmanager
def only_runner(cache: Path) -> Iterator[None]:
    """Hold the lock of the cache folder. While the body runs, no other runner uses the folder.

    The process becomes the leader of a process group, so that signals reach its workers too.

    Raises:
        RuntimeError: Another runner holds the lock.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"a runner works in {cache} already; `stop` ends it, `pause` halts it") from None
        if os.getpgrp() != os.getpid():
            os.setpgid(0, 0)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def runner(cache: Path) -> int | None:
    """The process group of the runner that holds the lock, or None if there is none."""
    path = cache / LOCK
    if not path.is_file():
        return None
    with path.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(file.read().strip())
    return None


def send(cache: Path, *signals: signal.Signals) -> int | None:
    """Send signals to the runner and its workers. Returns its number, or None if there is no runner."""
    group = runner(cache)
    if group is not None:
        for number in signals:
            os.killpg(group, number)
    return group
