"""A worker process. It takes runs as JSON lines on its standard input and answers on its standard output.

It answers ``{"examples": n}`` now and then while it works. For each run it answers ``{"line": …}`` or
``{"error": "…"}``. It ends when its input ends, even in the middle of a run. So a worker does not outlive the process
that started it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from benchmarks.evidence.spec import run_of
from benchmarks.evidence.work import Place, Work

REPORT_SECONDS = 0.5


def serve(place: Place) -> None:
    """Do the runs that arrive, until the input ends."""
    # The output of libraries must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    requests: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    work = Work(place)
    answer({"ready": work.commit})
    while True:
        run = run_of(json.loads(requests.get()))
        report = Reporter(lambda examples: answer({"examples": examples}))
        try:
            line = work.line(run, report)
        except Exception as error:  # the parent reports it and continues with other runs
            answer({"error": f"{type(error).__name__}: {error}"})
        else:
            report.flush()
            answer({"line": line})


class Reporter:
    """Passes on a number of examples, at most every half second."""

    def __init__(self, send: Callable[[int], None]) -> None:
        self._send = send
        self._examples = 0
        self._last = time.monotonic()

    def __call__(self, examples: int) -> None:
        self._examples += examples
        if time.monotonic() - self._last >= REPORT_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Pass on what is left."""
        if self._examples:
            self._send(self._examples)
        self._examples = 0
        self._last = time.monotonic()


def _listen(requests: SimpleQueue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    # Nothing worth keeping is lost, because states are renamed into place and the parent writes the lines.
    os._exit(0)
