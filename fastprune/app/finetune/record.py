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
from torch import Tensor, nn
from transformers import TrainerCallback

from fastprune.app.dynamics import BatchLogits, write_epoch
from fastprune.app.finetune.checkpoint import save
from fastprune.app.finetune.clock import Clock
from fastprune.app.finetune.progress import Watcher
from fastprune.app.finetune.ranks import first
from fastprune.app.finetune.spec import RunSpec
from fastprune.app.measures import measure_of
from fastprune.app.report.json_types import Row
from fastprune.errors import UsageError
from fastprune.platform.collectives import gather_objects
from fastprune.pruning import DynamicPruner, Phase, Progress

BEST = "best.safetensors"
WEIGHTS = ("model.safetensors", "adapter_model.safetensors")
"""What a checkpoint of the Trainer has the weights in, the second one where only adapters are trained."""


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
        """Rebuild a result from the dict that ``asdict`` made."""
        return cls(RunSpec(**state["spec"]), state["rows"], state["cycles"], state["data_map"], state["model"])


@dataclass(frozen=True)
class Judging:
    """How runs are judged.

    Attributes:
        measures: the quality measures, with the deciding one first.
        best: the split on which the best epoch is chosen.
    """

    measures: tuple[str, ...]
    best: str | None = None


class Recorder(TrainerCallback):
    """Asks for an evaluation and a checkpoint at the end of every epoch, and makes the rows of that epoch.

    Args:
        epochs: the run's number of epochs, for the watcher.
        write: called with the result so far when the rows of an epoch are complete.
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
        self.best: dict[str, Any] | None = None
        self.best_weights: Path | None = None
        self.quality: dict[str, dict[str, float]] = {}
        self._losses: list[Tensor] = []
        self._tokens: list[Tensor] = []
        self._batch: tuple[Tensor, Tensor] | None = None
        self._seen: list[BatchLogits] = []
        self._ended: list[Row] = []

    def state_dict(self) -> dict[str, Any]:
        """Return what the Trainer's own checkpoint does not hold."""
        return {
            **asdict(self.result),
            "clock": asdict(self.clock),
            "best": self.best,
        }

    def load_state_dict(self, state: dict[str, Any], folder: Path) -> None:
        """Go on from the checkpoint in ``folder``."""
        self.result = RunResult.of(state)
        self.clock = Clock(**state["clock"])
        self.best, self.best_weights = state["best"], folder / BEST if state["best"] else None

    @property
    def progress(self) -> Progress:
        """Where the run is."""
        return self.pruner.progress

    @property
    def kept_epoch(self) -> int:
        """The epoch of the model that the run ends with."""
        return int((self.result.rows[-1] if self.best is None else self.best)["epoch"])

    # --- training --------------------------------------------------------------------------------

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record the newest selection, tell the watcher that an epoch begins, and start the clock."""
        self.began = True
        phase, done = self.progress.piece.phase, self.progress.epochs_closed
        if phase.index and not phase.final and phase.first_epoch == done:
            self.result.cycles += cycle_record(self.result.spec, self.pruner, done)
        name, kept = _name(self.pruner, phase), phase.size / self.pruner.n
        self.watcher.epoch(self.result.spec, name, done + 1, self.epochs, kept, phase.size)
        self.clock.start("train")

    def step(self, loss: Tensor, examples: int, processes: int) -> None:
        """Count a micro-batch that has been trained on."""
        self._losses.append(loss)
        self.watcher.advance(examples * processes)

    def count_tokens(self, tokens: Tensor) -> None:
        """Count the tokens of a micro-batch that this process is trained on."""
        self._tokens.append(tokens)

    def next_batch(self, index: Tensor | None, labels: Tensor | None) -> None:
        """Remember the example numbers and the classes of the model's next batch, if its examples are numbered."""
        self._batch = None if index is None or labels is None else (index, labels)

    def forward_hook(self, model: nn.Module, inputs: Any, outputs: Any) -> None:
        """Keep the logits that the model returns in a training step."""
        if self._batch is not None and model.training:
            index, labels = self._batch
            self._seen.append((index, outputs["logits"].detach(), labels))

    def on_epoch_end(self, args: Any, state: Any, control: Any, lr_scheduler: Any = None, **kwargs: Any) -> Any:
        """Ask for an evaluation and a checkpoint."""
        self.clock.stop()
        loss = self._mean_loss(state.global_step)
        spec, phase, epoch = self.result.spec, self.progress.piece.phase, self.progress.epochs_closed
        if not math.isfinite(loss):
            raise UsageError(
                f"run {spec.name!r}, seed {spec.seed}, diverged in epoch {epoch}: its mean loss is {loss}; lower --lr"
            )
        self._write_dynamics(epoch - 1)
        self.watcher.loss(loss)
        seconds = self.clock.seconds
        self._ended.append(
            {
                "run": spec.name,
                "method": spec.method,
                "keep_fraction": spec.keep_fraction,
                "seed": spec.seed,
                "epoch": epoch,
                "phase": _name(self.pruner, phase),
                "kept": phase.size / self.pruner.n,
                "cycle": self.progress.chosen_for,
                "churn": self.pruner.cycle.churn,
                "threshold": self.pruner.cycle.threshold,
                "examples_seen": self.progress.examples_seen,
                **self._tokens_seen(),
                "steps": state.global_step,
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
        """After the evaluation and the Trainer's checkpoint, write the rows of the epoch and our state."""
        deciding = self.judging.measures[0]
        if self.quality:
            self.watcher.quality(deciding, next(iter(self.quality.values()))[deciding])
        for row in self._ended:
            self.result.rows += [{**row, "split": split, **values} for split, values in self.quality.items()]
        if self._ended and self.judging.best is not None:
            value = self.quality[self.judging.best][deciding]
            sign = measure_of(deciding).sign
            if self.best is None or sign * value > sign * self.best["value"]:
                self.best, self.best_weights = {"epoch": self._ended[-1]["epoch"], "value": value}, None
        self._ended = []
        if not first():
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self.best is not None:
            there = next(folder / name for name in WEIGHTS if (folder / name).is_file())
            _link(self.best_weights or there, folder / BEST)
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
        """Return the mean loss per step since the last epoch ended.

        The losses of a step's micro-batches add up to its loss.
        """
        rows = self._ended or self.result.rows
        since = steps - rows[-1]["steps"] if rows else steps
        mean = float(torch.stack(self._losses).double().sum() / max(1, since)) if self._losses else 0.0
        self._losses = []
        values = gather_objects(mean)
        return sum(values) / len(values)

    def _tokens_seen(self) -> dict[str, int]:
        """Return the tokens of all processes since the run's start, where they are counted."""
        own, self._tokens = int(torch.stack(self._tokens).sum()) if self._tokens else None, []
        counts = [count for count in gather_objects(own) if count is not None]
        rows = self._ended or self.result.rows
        return {"tokens_seen": sum(counts) + (rows[-1]["tokens_seen"] if rows else 0)} if counts else {}

    def _write_dynamics(self, epoch: int) -> None:
        if self.dynamics is None:
            return
        seen, self._seen = self._seen, []
        own = [torch.cat([part.cpu() for part in parts]) for parts in zip(*seen, strict=True)]
        index, logits, labels = (torch.cat(parts) for parts in zip(*gather_objects(own), strict=True))
        if first():
            once = [places[0] for places in _places(index.tolist()).values()]
            write_epoch(self.dynamics, epoch, index[once], logits[once], labels[once])


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
