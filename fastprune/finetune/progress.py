"""One live line while runs go on; plain lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from fastprune.finetune.spec import RunSpec


class LiveProgress:
    """A bar with run, phase, epoch, kept share and examples a second, on standard error.

    Where standard error is no terminal, one line for each finished epoch or scoring pass instead.
    """

    def __init__(self, n_runs: int, n_done: int = 0) -> None:
        self.console = Console(file=sys.stderr)
        self.n_runs = n_runs
        self.run_number = n_done
        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:>6.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[rate]:>5.0f} ex/s"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task("starting", total=1, rate=0.0)
        self.started = time.perf_counter()
        self.done = 0
        self.label = ""

    def __enter__(self) -> LiveProgress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finish_stretch()
        self.bar.stop()

    def run(self, spec: RunSpec) -> None:
        """A run begins."""
        self.run_number += 1

    def epoch(self, spec: RunSpec, phase: str, epoch: int, epochs: int, kept: float, length: int) -> None:
        """See `fastprune.finetune.train.Watcher`."""
        self._finish_stretch()
        self.started, self.done = time.perf_counter(), 0
        self.label = (
            f"[{self.run_number}/{self.n_runs}] {spec.name} · seed {spec.seed} · {phase} · "
            f"epoch {epoch}/{epochs} · kept {kept:.0%}"
        )
        self.bar.reset(self.task, description=self.label.replace("[", "\\["), total=length, rate=0.0)

    def advance(self, examples: int) -> None:
        """See `fastprune.finetune.train.Watcher`."""
        self.done += examples
        self.bar.update(self.task, advance=examples, rate=self._rate())

    def _rate(self) -> float:
        return self.done / max(1e-9, time.perf_counter() - self.started)

    def _finish_stretch(self) -> None:
        if self.done and not self.console.is_terminal:
            print(f"{self.label} · {self.done} examples · {self._rate():.0f} ex/s", file=sys.stderr, flush=True)
        self.done = 0


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error; the body calls its argument with how many more are done.  Silent without a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"))
    console = Console(file=sys.stderr)
    with Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.advance(task, done)
