"""The parent process. It hands runs to workers and writes their lines. No other process writes results."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.evidence.plan import Planned
from benchmarks.evidence.schedule import Growth, choose

ROOT = Path(__file__).parents[2]
WINDOW = 10.0
"""Seconds over which the examples per second are measured before a worker is added."""

POLL = 0.5
MOST_DEATHS = 3
"""After this many workers have died in the middle of a run, no further one is started."""


def environment(threads: int) -> dict[str, str]:
    """The environment of a worker's process: where the code is, its threads, and that it keeps freed memory.

    By default glibc returns memory to the system and asks for it again in every step. That takes a tenth to a quarter
    of the time.
    """
    keep = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "8589934592"}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    told = {"PYTHONPATH": path, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    return {**os.environ, **keep, **told}


@dataclass
class Child:
    """A worker process as the parent sees it."""

    process: subprocess.Popen[bytes]
    planned: Planned | None = None
    begun: float = 0.0
    examples: int = 0
    buffer: bytes = b""

    def give(self, planned: Planned, now: float) -> None:
        """Hand it a run."""
        assert self.process.stdin is not None
        self.planned, self.begun, self.examples = planned, now, 0
        self.process.stdin.write((json.dumps(planned.run.arguments) + "\n").encode())
        self.process.stdin.flush()

    def answers(self) -> list[dict[str, Any]]:
        """The whole lines that can be read now. Call it when there is something to read.

        Raises:
            EOFError: The process has ended.
        """
        assert self.process.stdout is not None
        chunk = os.read(self.process.stdout.fileno(), 1 << 20)
        if not chunk:
            raise EOFError
        *whole, self.buffer = (self.buffer + chunk).split(b"\n")
        return [json.loads(line) for line in whole]


@dataclass
class Session:
    """What one call of `run_all` did.

    Attributes:
        done: The keys of the runs whose line was written.
        failed: What went wrong, by key.
        examples: The examples of the finished runs.
        worker_seconds: The seconds that workers took for them.
    """

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    examples: int = 0
    worker_seconds: float = 0.0


class Runner:
    """Hands out runs, the most useful first, until none is left or the deadline comes.

    Args:
        command: The command of a worker process, see `worker`.
        left: The runs to do, in order.
        write: Called with each result line.
        growth: How many workers to have.
        deadline: Seconds from now, after which nothing is left running. None means no end.
        expected: The examples of a run, trained and scored, by key. With the measured rate they tell whether a run
            still fits before the deadline.
        guessed: The seconds of a run, by key. They are used as long as no rate was measured.
        threads: The threads of a worker.
        say: Called with a sentence about what happens.
        clock: Seconds that always increase.
    """

    def __init__(
        self,
        command: Sequence[str],
        left: Sequence[Planned],
        write: Callable[[Mapping[str, Any]], None],
        growth: Growth,
        *,
        deadline: float | None = None,
        expected: Mapping[str, int] | None = None,
        guessed: Mapping[str, float] | None = None,
        threads: int = 1,
        say: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.command = list(command)
        self.left = list(left)
        self.write = write
        self.growth = growth
        self.expected = expected or {}
        self.guessed = guessed or {}
        self.threads = threads
        self.say = say
        self.clock = clock
        self.end = None if deadline is None else clock() + deadline
        self.children: list[Child] = []
        self.session = Session()
        self._selector = selectors.DefaultSelector()
        self._window = (clock(), 0)
        self._deaths = 0

    def run_all(self) -> Session:
        """Do the runs. Workers that still work at the deadline are killed, and leave no line."""
        try:
            self._hire(self.growth.workers)
            while self.children and not self._late():
                for key, _ in self._selector.select(self._patience()):
                    self._hear(key.data)
                self._grow()
        finally:
            for child in list(self.children):
                self._dismiss(child)
        return self.session

    def _late(self) -> bool:
        return self.end is not None and self.clock() >= self.end

    def _patience(self) -> float:
        return POLL if self.end is None else max(0.0, min(POLL, self.end - self.clock()))

    def _hire(self, wanted: int) -> bool:
        """Start workers until there are ``wanted``. Returns False if there is no run for one of them."""
        while len(self.children) < wanted and self.left:
            process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(self.threads)
            )
            child = Child(process)
            assert process.stdout is not None
            self._selector.register(process.stdout, selectors.EVENT_READ, child)
            self.children.append(child)
            if not self._give(child):
                return False
        return len(self.children) >= wanted

    def _give(self, child: Child) -> bool:
        """Hand the child its next run, or send it home if there is none."""
        remaining = float("inf") if self.end is None else self.end - self.clock()
        planned = choose(self.left, self._expected_seconds(), remaining)
        if planned is None:
            self._dismiss(child)
            return False
        self.left.remove(planned)
        child.give(planned, self.clock())
        return True

    def _expected_seconds(self) -> Mapping[str, float]:
        if not self.session.examples:
            return self.guessed
        rate = self.session.examples / self.session.worker_seconds
        return {key: examples / rate for key, examples in self.expected.items()}

    def _hear(self, child: Child) -> None:
        try:
            answers = child.answers()
        except EOFError:
            self._ended(child, "the worker died")
            self._dismiss(child)
            self._deaths += 1
            if self._deaths < MOST_DEATHS:
                self._hire(len(self.children) + 1)
            return
        for answer in answers:
            if "ready" in answer:
                child.begun = self.clock()
                self._window = (self.clock(), 0)
            elif "examples" in answer:
                child.examples += answer["examples"]
                self._window = (self._window[0], self._window[1] + answer["examples"])
            elif "line" in answer:
                self._take(child, answer["line"])
            else:
                self._ended(child, answer["error"])
                self._give(child)

    def _take(self, child: Child, line: Mapping[str, Any]) -> None:
        assert child.planned is not None
        self.write(line)
        seconds = self.clock() - child.begun
        self.session.done.append(line["key"])
        self.session.examples += child.examples
        self.session.worker_seconds += seconds
        rate = child.examples / max(seconds, 1e-9)
        name = f"{line['arguments']['data']}, {line['arguments']['epochs']} epochs, {line['label']}"
        budget = line["arguments"]["budget"]
        name += "" if budget is None else f" {budget:g}"
        name += f" at {line['arguments']['lr']:g}" if line["arguments"]["split"] == "validation" else ""
        self.say(
            f"{name}, seed {line['arguments']['seed']}: {line['metric']} {line['figure']:.4f} "
            f"({seconds:.0f} s, {rate:.0f} examples/s; {len(self.left)} runs left)"
        )
        child.planned = None
        self._give(child)

    def _ended(self, child: Child, reason: str) -> None:
        if child.planned is not None:
            key = child.planned.run.key
            self.session.failed[key] = reason
            self.say(f"failed: {child.planned.run.data} {child.planned.run.label} ({key}): {reason}")
        child.planned = None

    def _grow(self) -> None:
        """After each window in which all workers were busy, ask whether one more is worth it."""
        start, examples = self._window
        now = self.clock()
        if now - start < WINDOW or not all(child.examples for child in self.children):
            return
        wanted = self.growth.measured(examples / (now - start))
        if wanted > len(self.children):
            self.say(
                f"{examples / (now - start):.0f} examples/s with {len(self.children)} workers; {wanted} from now on"
            )
        self._hire(wanted)
        self._window = (self.clock(), 0)

    def _dismiss(self, child: Child) -> None:
        if child not in self.children:
            return
        self.children.remove(child)
        assert child.process.stdin is not None and child.process.stdout is not None
        self._selector.unregister(child.process.stdout)
        child.process.kill()
        child.process.wait()
        child.process.stdin.close()
        child.process.stdout.close()


def worker_command(arguments: Sequence[str]) -> list[str]:
    """The command of a worker with these options."""
    return [sys.executable, "-m", "benchmarks.evidence", "worker", *arguments]
