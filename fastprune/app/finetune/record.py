"""Records what a run leaves: a row an epoch, the scores of each selection, and the state from which it goes on."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from fastprune.app.dynamics import write_epoch
from fastprune.app.finetune.checkpoint import save
from fastprune.app.finetune.clock import Clock
from fastprune.app.finetune.progress import Watcher
from fastprune.app.finetune.ranks import first, gathered
from fastprune.app.finetune.spec import RunSpec
from fastprune.errors import UsageError
from fastprune.pruning import DynamicPruner, Phase

BEST = "best.safetensors"
WEIGHTS = "model.safetensors"
Row = dict[str, Any]
Seen = tuple[Tensor, Tensor, Tensor]
"""Indices, logits and classes of a batch."""


@dataclass
class RunResult:
    """What is kept of a run.

    Attributes:
        rows: one per user epoch and split (metrics.jsonl).
        cycles: the scores each selection looked at, and those at the end.
        data_map: index, confidence and variability of each example, where the run recorded them.
        model: run, seed and epoch of the model that was kept, if it was this run's.
    """

    spec: RunSpec
    rows: list[Row] = field(default_factory=list)
    cycles: list[Row] = field(default_factory=list)
    data_map: dict[str, Tensor] | None = None
    model: dict[str, Any] | None = None

    @classmethod
    def of(cls, state: dict[str, Any]) -> RunResult:
        """Make a result of what ``asdict`` made of one."""
        return cls(RunSpec(**state["spec"]), state["rows"], state["cycles"], state["data_map"], state["model"])


@dataclass(frozen=True)
class Judging:
    """The ``metrics`` by which runs are judged, the deciding one first, and the split that chooses the best epoch."""

    metrics: tuple[str, ...]
    best: str | None = None


class Recorder(TrainerCallback):
    """Asks for an evaluation and a checkpoint at every epoch's end, and makes a row of it.

    Args:
        epochs: of the run, for the watcher.
        write: called with the rows so far when an epoch's are complete.
        dynamics: folder for the logits of every training step, see `fastprune.app.dynamics`.
    """

    def __init__(
        self,
        spec: RunSpec,
        pruner: DynamicPruner,
        judging: Judging,
        epochs: int,
        watcher: Watcher,
        write: Callable[[RunResult], None],
        dynamics: Path | None = None,
    ) -> None:
        self.result = RunResult(spec)
        self.pruner, self.judging, self.epochs, self.watcher = pruner, judging, epochs, watcher
        self.write, self.dynamics = write, dynamics
        self.clock = Clock()
        self.began = False
        self.done = 0
        self.steps = 0
        self.examples = 0
        self.best: dict[str, Any] | None = None
        self.best_weights: Path | None = None
        self.metrics: dict[str, dict[str, float]] = {}
        self._losses: list[Tensor] = []
        self._seen: list[Seen] = []
        self._ended: list[Row] = []

    def state_dict(self) -> dict[str, Any]:
        """Return what the Trainer's own checkpoint does not hold."""
        return {
            **asdict(self.result),
            "clock": asdict(self.clock),
            "done": self.done,
            "steps": self.steps,
            "examples": self.examples,
            "best": self.best,
        }

    def load_state_dict(self, state: dict[str, Any], folder: Path) -> None:
        """Go on from the checkpoint in ``folder``."""
        self.result = RunResult.of(state)
        self.clock = Clock(**state["clock"])
        self.done, self.steps, self.examples = state["done"], state["steps"], state["examples"]
        self.best, self.best_weights = state["best"], folder / BEST if state["best"] else None

    @property
    def kept_epoch(self) -> int:
        """The epoch of the model that the run ends with."""
        return self.done if self.best is None else int(self.best["epoch"])

    # --- training --------------------------------------------------------------------------------

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record the newest selection, tell the watcher that an epoch begins, and start the clock."""
        self.began = True
        phase = self.pruner.sampler.piece.phase
        if phase.index and not phase.final and phase.first_epoch == self.done:
            self.result.cycles += cycle_record(self.result.spec, self.pruner, self.done)
        name, kept = _name(self.pruner, phase), phase.size / self.pruner.n
        self.watcher.epoch(self.result.spec, name, self.done + 1, self.epochs, kept, phase.size)
        self.clock.start("train")

    def step(self, loss: Tensor, examples: int, processes: int) -> None:
        """Count a micro-batch that has been trained on."""
        self._losses.append(loss)
        self.examples += examples * processes
        self.watcher.advance(examples * processes)

    def saw(self, index: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Keep the logits of a micro-batch."""
        self._seen.append((index, logits.detach(), labels))

    def on_epoch_end(self, args: Any, state: Any, control: Any, lr_scheduler: Any = None, **kwargs: Any) -> Any:
        """Ask for an evaluation and a checkpoint."""
        self.clock.stop()
        self.done += 1
        loss = self._mean_loss(state.global_step)
        spec, phase = self.result.spec, self.pruner.sampler.piece.phase
        if not math.isfinite(loss):
            raise UsageError(
                f"run {spec.name!r}, seed {spec.seed}, diverged in epoch {self.done}: its mean loss is {loss}; "
                "lower --lr"
            )
        self._write_dynamics()
        self.watcher.loss(loss)
        seconds = self.clock.seconds
        self._ended.append(
            {
                "run": spec.name,
                "method": spec.method,
                "keep_fraction": spec.keep_fraction,
                "seed": spec.seed,
                "epoch": self.done,
                "phase": _name(self.pruner, phase),
                "kept": phase.size / self.pruner.n,
                "cycle": self.pruner.progress.chosen_for,
                "churn": self.pruner.cycle.churn,
                "threshold": self.pruner.cycle.threshold,
                "examples_seen": self.examples,
                "steps": self.steps,
                "seconds": self.clock.total,
                **{f"{part}_seconds": seconds[part] for part in seconds},
                "cpu_seconds": self.clock.cpu_seconds,
                "train_loss": loss,
                "lr": lr_scheduler.get_last_lr()[0],
            }
        )
        control.should_evaluate = control.should_save = True
        return control

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the epoch's rows and our state, after the evaluation and the Trainer's checkpoint."""
        deciding = self.judging.metrics[0]
        if self.metrics:
            self.watcher.metric(deciding, next(iter(self.metrics.values()))[deciding])
        for row in self._ended:
            self.result.rows += [{**row, "split": split, **values} for split, values in self.metrics.items()]
        if self._ended and self.judging.best is not None:
            value = self.metrics[self.judging.best][deciding]
            if self.best is None or value > self.best["value"]:
                self.best, self.best_weights = {"epoch": self.done, "value": value}, None
        self._ended = []
        if not first():
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self.best is not None:
            _link(self.best_weights or folder / WEIGHTS, folder / BEST)
            self.best_weights = folder / BEST
        self.write(self.result)
        save(folder, self.state_dict())

    def finish(self) -> RunResult:
        """Return the result: the run has ended."""
        pruner, result = self.pruner, self.result
        if pruner.method.reads and not pruner.history.empty:
            epoch = int(pruner.history.scored_epoch.max()) + 1
            if not result.cycles or result.cycles[-1]["epoch"] < epoch:
                last = cycle_record(result.spec, pruner, epoch)
                result.cycles += [{**record, "kept": torch.zeros_like(record["kept"])} for record in last]
        return result

    def _mean_loss(self, steps: int) -> float:
        """Return the mean loss over the steps since the last epoch's end.

        Micro-batches of a step are parts of its loss.
        """
        mean = float(torch.stack(self._losses).double().sum() / max(1, steps - self.steps)) if self._losses else 0.0
        self._losses, self.steps = [], steps
        values = gathered(mean)
        return sum(values) / len(values)

    def _write_dynamics(self) -> None:
        if self.dynamics is None:
            return
        seen, self._seen = self._seen, []
        own = [torch.cat([part.cpu() for part in parts]) for parts in zip(*seen, strict=True)]
        index, logits, labels = (torch.cat(parts) for parts in zip(*gathered(own), strict=True))
        if first():
            once = [places[0] for places in _places(index.tolist()).values()]
            write_epoch(self.dynamics, self.done - 1, index[once], logits[once], labels[once])


def cycle_record(spec: RunSpec, pruner: DynamicPruner, epoch: int) -> list[Row]:
    """Return the scores that the newest selection looked at, and what it kept.

    There is nothing to return if nothing was scored.
    """
    if not pruner.method.reads or pruner.history.empty:
        return []
    kept = torch.zeros(pruner.n, dtype=torch.bool)
    kept[pruner.kept_indices] = True
    score = pruner.history.value(pruner.method.reads[0]).cpu()
    return [{"run": spec.name, "seed": spec.seed, "epoch": epoch, "score": score, "kept": kept}]


def _name(pruner: DynamicPruner, phase: Phase) -> str:
    if pruner.method.keeps_all:
        return "full"
    return "warmup" if phase.index == 0 else "final" if phase.final else "pruned"


def _places(index: Sequence[int]) -> dict[int, list[int]]:
    """Return where each example is.  The last step of a cycle may read some again."""
    places: dict[int, list[int]] = {}
    for place, example in enumerate(index):
        places.setdefault(example, []).append(place)
    return places


def _link(source: Path, target: Path) -> None:
    with suppress(OSError):
        target.unlink(missing_ok=True)
        os.link(source, target)
        return
    shutil.copyfile(source, target)
