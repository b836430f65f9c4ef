"""One run: a plain training loop with a `DynamicPruner` around it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from fastprune.dynamics import read_dynamics, write_epoch
from fastprune.errors import UsageError
from fastprune.finetune.clock import Clock
from fastprune.finetune.encode import EncodedSplit, collator, group_by_length
from fastprune.finetune.model import batch_scores, example_losses, example_scores, forward, joint_loss
from fastprune.finetune.spec import RunSpec, Training, make_pruner
from fastprune.pruning import DynamicPruner, Moments, Phase, score_dataset

LR_WARMUP_SHARE = 0.1
SCORING_BATCH_FACTOR = 4
Row = dict[str, Any]
Seen = tuple[Tensor, Tensor, Tensor]
"""Indices, intent logits and intents of a batch."""


class Watcher(Protocol):
    """Who is told about the run while it goes on."""

    def epoch(self, spec: RunSpec, phase: str, epoch: int, epochs: int, kept: float, length: int) -> None:
        """A stretch of ``length`` examples begins: an epoch (numbered from 1) or a scoring pass."""
        ...

    def advance(self, examples: int) -> None:
        """So many more examples are done."""
        ...


@dataclass
class RunResult:
    """``rows``: one per user epoch (metrics.jsonl); ``cycles``: the scores each selection looked at, and those at the
    end; ``data_map``: index, confidence and variability of each example, where the run recorded them."""

    spec: RunSpec
    rows: list[Row] = field(default_factory=list)
    cycles: list[Row] = field(default_factory=list)
    data_map: dict[str, Tensor] | None = None


@dataclass
class Run:
    """Everything of a run that changes while it goes on; `state_dict` holds all of it."""

    spec: RunSpec
    model: nn.Module
    optimizer: torch.optim.Optimizer
    lr_schedule: torch.optim.lr_scheduler.LambdaLR
    pruner: DynamicPruner
    result: RunResult
    clock: Clock
    steps: int = 0

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and containers."""
        return {
            "spec": asdict(self.spec),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "lr_schedule": self.lr_schedule.state_dict(),
            "pruner": self.pruner.state_dict(),
            "rows": self.result.rows,
            "cycles": self.result.cycles,
            "clock": asdict(self.clock),
            "steps": self.steps,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on exactly where the state was taken."""
        self.pruner.load_state_dict(state["pruner"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.lr_schedule.load_state_dict(state["lr_schedule"])
        self.result.rows, self.result.cycles = state["rows"], state["cycles"]
        self.clock = Clock(**state["clock"])
        self.steps = state["steps"]
        torch.set_rng_state(state["rng"])
        if state["cuda_rng"]:
            torch.cuda.set_rng_state_all(state["cuda_rng"])


def start_run(
    spec: RunSpec,
    training: Training,
    train: EncodedSplit,
    fingerprint: str,
    make_model: Callable[[], nn.Module],
) -> Run:
    """A fresh run: the model, the optimizer and the pruner all start from ``spec.seed``."""
    torch.manual_seed(spec.seed)
    model = make_model()
    arrange = group_by_length(train.lengths, training.batch_size)
    pruner = make_pruner(spec, len(train), training, fingerprint=fingerprint, arrange=arrange)
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.lr, fused=True)
    total = total_steps(spec, training, pruner)
    lr_schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: lr_factor(step, total))
    return Run(spec, model, optimizer, lr_schedule, pruner, RunResult(spec), Clock())


def warm_up(model: nn.Module, train: EncodedSplit, training: Training, pad_token_id: int) -> None:
    """One step that is thrown away: the first of a process is several times slower than the rest.

    Without it the run that happens to be first, ``full``, would look slower than it is.
    """
    batch = collator(pad_token_id)([train[i] for i in range(min(len(train), training.batch_size))])
    logits, batch = forward(model, batch, bf16=training.bf16)
    joint_loss(logits, batch).backward()
    model.zero_grad(set_to_none=True)


def total_steps(spec: RunSpec, training: Training, pruner: DynamicPruner) -> int:
    """Optimizer steps of the run, on which the learning-rate schedule ends."""
    if spec.max_examples is None:
        return pruner.total_batches(training.epochs, training.batch_size)
    whole, rest = divmod(spec.max_examples, pruner.n)
    return whole * -(-pruner.n // training.batch_size) + -(-rest // training.batch_size)


def lr_factor(step: int, total: int) -> float:
    """Linear warm-up over a tenth of the steps, then linear decay to 0 at the last."""
    warmup = max(1, int(LR_WARMUP_SHARE * total))
    return min((step + 1) / warmup, max(0.0, (total - step) / max(1, total - warmup)))


def continue_run(
    run: Run,
    training: Training,
    train: EncodedSplit,
    evaluate: Callable[[nn.Module], dict[str, float]],
    pad_token_id: int,
    watcher: Watcher,
    on_epoch_end: Callable[[Run], None],
    dynamics: Path | None = None,
) -> RunResult:
    """Train ``run`` to its end from wherever it is; one row per user epoch.

    Args:
        evaluate: metrics of the model; its time is not counted.
        on_epoch_end: called when the epoch, its evaluation and a due scoring pass are done.
        dynamics: folder for the intent logits of every training step, see `fastprune.dynamics`.
    """
    spec, pruner = run.spec, run.pruner
    total = total_steps(spec, training, pruner)
    loader = DataLoader(
        train, batch_size=training.batch_size, sampler=pruner.sampler, collate_fn=collator(pad_token_id)
    )

    def train_epoch() -> tuple[float, list[Seen]]:
        losses: list[Tensor] = []
        seen: list[Seen] = []
        for batch in loader:
            logits, batch = forward(run.model, batch, bf16=training.bf16)
            if pruner.method.weighted:
                loss = pruner.mean_loss(example_losses(logits, batch), batch["index"])
            else:
                loss = joint_loss(logits, batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
            run.optimizer.step()
            run.lr_schedule.step()
            run.optimizer.zero_grad(set_to_none=True)
            if pruner.method.observes:
                pruner.observe(batch["index"], example_scores(logits, batch, pruner.method.reads))
            if dynamics is not None:
                seen.append((batch["index"], logits["intent"].detach(), batch["intent"]))
            losses.append(loss.detach())
            run.steps += 1
            watcher.advance(len(batch["index"]))
            if run.steps == total:
                break
        return float(torch.stack(losses).mean()), seen

    def scoring_pass(index: Tensor) -> Mapping[str, Tensor]:
        of_batch = batch_scores(run.model, pruner.method.reads, bf16=training.bf16)
        watcher.epoch(spec, "score", epoch + 1, training.epochs, 1.0, len(index))
        return score_dataset(
            run.model,
            train,
            lambda batch: of_batch(batch)[0],
            indices=index,
            lengths=train.lengths,
            batch_size=SCORING_BATCH_FACTOR * training.batch_size,
            collate_fn=collator(pad_token_id),
            progress=watcher.advance,
        )

    epochs = pruner.epochs(training.epochs)
    while run.steps < total:
        with run.clock.part("select"):
            epoch = next(epochs)
        phase = pruner.sampler.piece.phase
        if phase.index and not phase.final and phase.first_epoch == epoch:
            run.result.cycles += _cycle_record(run, epoch)
        kept = phase.size / pruner.n
        name = _phase_name(pruner, phase)
        watcher.epoch(spec, name, epoch + 1, training.epochs, kept, phase.size)
        run.model.train()
        with run.clock.part("train"):
            loss_mean, seen = train_epoch()
        if not math.isfinite(loss_mean):
            raise UsageError(
                f"run {spec.name!r}, seed {spec.seed}, diverged in epoch {epoch + 1}: its mean loss is {loss_mean}; "
                "lower --lr"
            )
        if pruner.wants_scores:
            with run.clock.part("score"):
                pruner.rescore(scoring_pass)
        if dynamics is not None:
            write_epoch(dynamics, epoch, *(torch.cat(part) for part in zip(*seen, strict=True)))
        run.result.rows.append(_row(run, epoch, name, kept, loss_mean, evaluate(run.model)))
        on_epoch_end(run)
    run.result.cycles += _last_record(run)
    run.result.data_map = _recorded_map(pruner) if dynamics is None else _map_of_dynamics(dynamics)
    return run.result


def _phase_name(pruner: DynamicPruner, phase: Phase) -> str:
    if pruner.method.keeps_all:
        return "full"
    return "warmup" if phase.index == 0 else "final" if phase.final else "pruned"


def _row(run: Run, epoch: int, phase: str, kept: float, loss: float, metrics: dict[str, float]) -> Row:
    seconds = run.clock.seconds
    return {
        "run": run.spec.name,
        "method": run.spec.method,
        "keep_fraction": run.spec.keep_fraction,
        "seed": run.spec.seed,
        "epoch": epoch + 1,
        "phase": phase,
        "kept": kept,
        "cycle": run.pruner.sampler.kept_phase,
        "churn": run.pruner.cycle.churn,
        "threshold": run.pruner.cycle.threshold,
        "examples_seen": run.pruner.examples_before + run.pruner.position,
        "steps": run.steps,
        "seconds": run.clock.total,
        "train_seconds": seconds["train"],
        "score_seconds": seconds["score"],
        "select_seconds": seconds["select"],
        "cpu_seconds": run.clock.cpu_seconds,
        "train_loss": loss,
        "lr": run.lr_schedule.get_last_lr()[0],
        "split": "test",
        **metrics,
    }


def _cycle_record(run: Run, epoch: int) -> list[Row]:
    pruner = run.pruner
    if not pruner.method.reads or pruner.history.empty:
        return []
    kept = torch.zeros(pruner.n, dtype=torch.bool)
    kept[pruner.kept_indices] = True
    score = pruner.history.value(pruner.method.reads[0]).cpu()
    return [{"run": run.spec.name, "seed": run.spec.seed, "epoch": epoch, "score": score, "kept": kept}]


def _last_record(run: Run) -> list[Row]:
    """The scores at the end of the run, which chose nothing; none if no example was scored since the last selection."""
    pruner = run.pruner
    if not pruner.method.reads or pruner.history.empty:
        return []
    epoch = int(pruner.history.scored_epoch.max()) + 1
    if run.result.cycles and run.result.cycles[-1]["epoch"] >= epoch:
        return []
    score = pruner.history.value(pruner.method.reads[0]).cpu()
    kept = torch.zeros(pruner.n, dtype=torch.bool)
    return [{"run": run.spec.name, "seed": run.spec.seed, "epoch": epoch, "score": score, "kept": kept}]


def _recorded_map(pruner: DynamicPruner) -> dict[str, Tensor] | None:
    """Mean and deviation of p(label), where the method keeps both; of the examples it has seen."""
    if pruner.method.statistics.get("confidence") != Moments("deviation"):
        return None
    history = pruner.history
    seen = (history.visits > 0).nonzero().flatten()
    mean, deviation = history.state("confidence")["mean"], history.value("confidence")
    columns = {"index": seen, "confidence": mean[seen], "variability": deviation[seen]}
    return {name: values.cpu() for name, values in columns.items()}


def _map_of_dynamics(dynamics: Path) -> dict[str, Tensor]:
    columns = read_dynamics(dynamics)
    # Every line is of one of our examples, whose guid is its index.
    chosen = {"index": "guid", "confidence": "confidence", "variability": "variability"}
    return {name: torch.from_numpy(columns[column]) for name, column in chosen.items()}
