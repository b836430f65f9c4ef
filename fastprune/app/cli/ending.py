"""How a failed command ends: its message, its exit status, and which of several processes prints it.

With several processes (torchrun, accelerate) the first one that fails prints its error.  The others fail a moment
later, because they wait for a process that is gone.  They print nothing.
"""

from __future__ import annotations

import errno
import os
import sys
import time
import traceback

from fastprune.app.finetune import ranks
from fastprune.app.printable import printable
from fastprune.app.termination import TerminatedError
from fastprune.errors import UsageError, in_short

FAILED, USAGE, INTERRUPTED, TERMINATED = 1, 2, 130, 143
OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EIO}
"""Errors that no other option would fix: a full disk, a full quota, a broken disk.  The exit status is 1."""
MENDED = "; nothing that was written before is lost: make room, and add --resume to go on"
GRACE = 5.0
"""How many seconds all processes but the first wait before they print an error that all of them may have seen."""
GONE = "by peer"
"""Gloo's words for a process at the other end that has ended: closed by peer, or reset by peer."""


def ended(error: BaseException) -> int | None:
    """Print the error, and return the exit status.

    None is returned for a mistake of the program in one process, whose traceback is then shown.  With several processes
    this function ends the process at once.  The destructor of its group might wait for a collective call that never
    comes.
    """
    status, text = what(error)
    rank, world_size = ranks.launched()
    if world_size == 1:
        if text is None:
            return None
        print(f"fastprune: {in_short(text)}", file=sys.stderr)
        return status
    silent = said_elsewhere(error)
    if rank > 0 and status == USAGE and not silent:
        time.sleep(GRACE)  # most often the first process says the same, and torchrun then ends this one
    with ranks.voice(wanted=not silent) as mine:
        if mine:
            if text is None and not _other_gone(error):
                traceback.print_exception(error)
            named = text is None or (rank > 0 and not isinstance(error, KeyboardInterrupt))
            sentence = _unexpected(error) if text is None else text
            print(f"fastprune: {f'rank {rank}: ' if named else ''}{in_short(sentence)}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def what(error: BaseException) -> tuple[int, str | None]:
    """Return the exit status and the sentence.  A mistake of the program has no sentence."""
    if isinstance(error, TerminatedError):
        return TERMINATED, "terminated"
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted"
    if isinstance(error, OSError):
        machine = error.errno in OF_THE_MACHINE
        return FAILED if machine else USAGE, f"{printable(error)}{MENDED if machine else ''}"
    if isinstance(error, RecursionError):
        return USAGE, "a file is nested too deeply to be read"
    if isinstance(error, UsageError):
        return USAGE, printable(error)
    return FAILED, None


def said_elsewhere(error: BaseException) -> bool:
    """Return whether the cause of this error lies on another process, which reports it."""
    return bool(getattr(error, "said_elsewhere", False)) or (
        error.__cause__ is not None and said_elsewhere(error.__cause__)
    )


def _other_gone(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and GONE in str(error)


def _unexpected(error: BaseException) -> str:
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if _other_gone(error):
        return f"another process ended without a word, as one that the system kills for want of memory ({line})"
    return f"{type(error).__name__}: {printable(line)}".removesuffix(": ")
