"""Ends a process on SIGTERM as on Ctrl-C: files are closed, and locks are released.

Schedulers and torchrun send SIGTERM.
"""

from __future__ import annotations

import signal
import threading
from typing import Any


class TerminatedError(KeyboardInterrupt):
    """The system or a scheduler has asked the process to end."""


class Termination:
    """While the body runs, the first request to end raises `TerminatedError`.

    Further ones do nothing until the body has ended, nor do those after `settled`.

    Args:
        active: False where the system may end the process at once.
    """

    def __init__(self, *, active: bool = True) -> None:
        self._active = active
        self._settled = False
        self._before: Any = None

    def settled(self) -> None:
        """The body is about to end."""
        self._settled = True

    def __enter__(self) -> Termination:
        # Python lets the main thread alone say what a signal does.
        if self._active and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._asked)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _asked(self, *_: object) -> None:
        if not self._settled:
            self._settled = True
            raise TerminatedError
