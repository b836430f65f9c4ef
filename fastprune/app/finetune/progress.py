"""Shows one live line while runs go on, and plain lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from fastprune.app.finetune.spec import RunSpec
from fastprune.app.measures import measure_of
from fastprune.app.printable import printable

TRAINING = ("full", "warmup", "pruned", "final")
"""The phases that train the model.  All other phases only run forward passes."""
FORWARD = 1 / 3
"""Scoring or evaluating one example costs this share of what training on it costs."""
SHORTEST_NAME = 12


class Watcher(Protocol):
    """A watcher is told about the progress of a comparison.

    ``total`` is called first, and only once.  ``run`` is called when a run begins or resumes.  A stretch of a run is
    one epoch, or one pass that scores or evaluates.  ``epoch`` is called when a stretch begins, and ``advance`` after
    each batch.  ``loss`` and ``quality`` are called when there is a new value.
    """

    def total(self, examples: int, forward: int = 0, done: float = 0.0) -> None:
        """Say what the comparison will do.

        Args:
            examples: how many examples all runs train on, in total.
            forward: how many examples all runs score and evaluate, in total.  It is 0 if this number is unknown.
                The time of these passes then counts as training time.
            done: the share of all work that an earlier process has already done, in [0, 1).
        """
        ...

    def run(self, spec: RunSpec) -> None:
        """Say that a run begins, or goes on."""
        ...

    def epoch(self, spec: RunSpec, phase: str, epoch: int, epochs: int, kept: float, length: int) -> None:
        """Say that a stretch of a run begins.

        Args:
            spec: the run.
            phase: one of `TRAINING`, or the name of a pass that does not train, such as "score" or "evaluate".
            epoch: which epoch it is, counted from 1.
            epochs: how many epochs the whole run has.
            kept: the share of the data that the run trains on.
            length: how many examples the stretch has.
        """
        ...

    def advance(self, examples: int) -> None:
        """Say that ``examples`` more of the stretch are done."""
        ...

    def loss(self, value: float) -> None:
        """Tell the newest training loss."""
        ...

    def quality(self, name: str, value: float) -> None:
        """Tell the newest value of the deciding quality measure.  Only the last value is shown."""
        ...


@dataclass
class Work:
    """Counts work.  One unit is the work of training on one example.

    ``total`` is for all runs, ``before`` is for earlier processes, and ``done`` is for this process.
    """

    total: float = 0.0
    before: float = 0.0
    done: float = 0.0

    @property
    def share(self) -> float:
        """The share of all work that is done."""
        return min(1.0, (self.before + self.done) / self.total) if self.total else 0.0

    def left(self, elapsed: float) -> float | None:
        """Return the seconds to the end at the speed so far, or None while that is not known.

        >>> Work(total=100, before=20, done=20).left(elapsed=5)
        15.0
        """
        if not self.total or not self.done:
            return None
        return max(0.0, self.total - self.before - self.done) * elapsed / self.done


Part = tuple[int, str]
"""The importance of one part of the line, and its text.  A larger number matters more."""


def fitted(parts: Sequence[Part], width: int) -> str:
    """Join the parts in order, and drop the least important ones until the line fits.

    The first part always stays, but it may be shortened.

    >>> fitted([(9, "el2n 0.5"), (1, "seed 0"), (5, "loss 0.23")], 22)
    'el2n 0.5 · loss 0.23'
    """
    kept = [part for part in parts if part[1]]
    while len(kept) > 1 and len(_joined(kept)) > width:
        over = len(_joined(kept)) - width
        matters, name = kept[0]
        if len(name) - over >= SHORTEST_NAME and all(other[0] > 4 for other in kept):
            kept[0] = (matters, f"{name[: len(name) - over - 1]}…")
        else:
            kept.remove(min(kept[1:]))
    return _joined(kept)[: max(1, width)]


def _joined(parts: Sequence[Part]) -> str:
    return " · ".join(text for _, text in parts)


def time_left(seconds: float | None) -> str:
    """Return the time as a person says it.

    >>> time_left(45), time_left(780), time_left(12_000), time_left(None)
    ('45 s left', '13 min left', '3.3 h left', '')
    """
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{seconds:.0f} s left"
    return f"{seconds / 60:.0f} min left" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h left"


class LiveProgress:
    """A `Watcher` that shows a bar on standard error, with the position, loss, last quality and time left.

    If the terminal is narrow, some parts are left out.  If there is no terminal, one line is printed for each epoch.
    """

    def __init__(self, n_runs: int, n_done: int = 0, *, silent: bool = False, console: Console | None = None) -> None:
        self.console = console or Console(file=sys.stderr)
        self.plain = not self.console.is_terminal and not silent
        self.n_runs, self.run_number = n_runs, n_done
        self.work = Work()
        self.started = self.stretch_started = time.perf_counter()
        self.spec: RunSpec | None = None
        self.phase, self.trains, self.where = "", "", (0, 0)
        self.kept, self.done, self.length, self.rate = 1.0, 0, 1, 0.0
        self.forward_counts = False
        self.last_loss: float | None = None
        self.last_quality: tuple[str, float] | None = None
        self.unsaid = False
        self.bar = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
            BarColumn(bar_width=self._bar_width),
            console=self.console,
            transient=True,
            disable=silent or self.plain,
        )
        self.task = self.bar.add_task("starting", total=1.0)

    def __enter__(self) -> LiveProgress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        broke_off = kind is not None and self.phase in TRAINING and self.done < self.length
        if not broke_off:
            self._say()
        if not self.bar.disable:  # older versions of rich end one that never began with an empty line
            self.bar.stop()

    def total(self, examples: int, forward: int = 0, done: float = 0.0) -> None:
        """See `Watcher`."""
        total = examples + FORWARD * forward
        self.work, self.forward_counts = Work(total, done * total), forward > 0

    def run(self, spec: RunSpec) -> None:
        """See `Watcher`."""
        self._say()
        self.run_number += 1
        self.last_loss = self.last_quality = None

    def epoch(self, spec: RunSpec, phase: str, epoch: int, epochs: int, kept: float, length: int) -> None:
        """See `Watcher`."""
        if phase in TRAINING:
            self._say()
            self.trains, self.kept = phase, kept
        self.stretch_started = time.perf_counter()
        if not self.work.done:
            self.started = self.stretch_started
        self.spec, self.phase, self.where = spec, phase, (epoch, epochs)
        self.done, self.length = 0, length
        self._show()

    def advance(self, examples: int) -> None:
        """See `Watcher`."""
        trains = self.phase in TRAINING
        self.done += examples
        self.work.done += examples * (1.0 if trains else FORWARD * self.forward_counts)
        if trains:
            self.rate = self.done / max(1e-9, time.perf_counter() - self.stretch_started)
            self.unsaid = True
        self._show()

    def loss(self, value: float) -> None:
        """See `Watcher`."""
        self.last_loss = value
        self._show()

    def quality(self, name: str, value: float) -> None:
        """See `Watcher`."""
        self.last_quality = name, value
        self._show()

    @property
    def _bar_width(self) -> int:
        return 24 if self.console.width >= 100 else 8 if self.console.width >= 72 else 5

    def _show(self) -> None:
        share = self.work.share if self.work.total else self.done / max(1, self.length)
        room = self.console.width - self._bar_width - 1
        self.bar.update(self.task, description=fitted(self._parts(self.phase), room), completed=share)

    def _say(self) -> None:
        """The epoch that has ended, as a line."""
        if self.unsaid and self.plain:
            print(_joined([part for part in self._parts(self.trains) if part[1]]), file=self.console.file, flush=True)
        self.unsaid = False

    def _parts(self, phase: str) -> list[Part]:
        if self.spec is None:
            return []
        quality = "" if self.last_quality is None else _valued(*self.last_quality)
        return [
            (10, f"{self.run_number}/{self.n_runs} {printable(self.spec.name)}"),
            (3, f"seed {self.spec.seed}"),
            (2, phase),
            (6, f"epoch {self.where[0]}/{self.where[1]}"),
            (1, f"kept {self.kept:.0%}"),
            (4, f"{self.rate:.0f} ex/s" if self.rate else ""),
            (7, "" if self.last_loss is None else f"loss {self.last_loss:.3g}"),
            (8, quality),
            (9, time_left(self.work.left(time.perf_counter() - self.started))),
        ]


def _valued(name: str, value: float) -> str:
    return f"{measure_of(name).heading.removesuffix(' %')} {measure_of(name).shown(value)}"


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error.  The body gets a function, and calls it with the number of newly done items.

    Without a terminal nothing is shown.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"))
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield lambda done: None
        return
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)
