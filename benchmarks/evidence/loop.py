"""The training loop: plain PyTorch around a `DynamicPruner`. It counts every token, example and CPU second."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, Dataset

from benchmarks.evidence.counts import Counts, Work
from benchmarks.evidence.measures import evaluate
from benchmarks.evidence.model import batch_scores, example_losses, example_scores, forward, joint_loss
from benchmarks.evidence.spec import Run, lr_share, make_pruner, steps_of
from benchmarks.evidence.tokens import Prepared, Tokens
from fastprune.app.finetune.encode import group_by_length
from fastprune.pruning import score_dataset

LOOP_VERSION = 1
"""Raised when this loop, the model or the data changes the results of a run. Older results then count as unfinished."""

SCORING_BATCH_FACTOR = 4


@dataclass
class Outcome:
    """The result of a run: a row for each epoch, and what it cost."""

    epochs: list[dict[str, Any]] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)


class Training:
    """A run in progress, with everything that changes during it.

    Args:
        run: Its arguments.
        prepared: The data, on the device that trains.
        model: A fresh model from `make_model`. It is moved to that device.
    """

    def __init__(self, run: Run, prepared: Prepared, model: nn.Module) -> None:
        self.run = run
        self.prepared = prepared
        self.train: Tokens = prepared.splits["train"]
        self.model = model.to(self.train.ids.device)
        self.bf16 = run.precision == "bf16"
        arrange = group_by_length(self.train.lengths, run.batch_size)
        self.pruner = make_pruner(run, len(self.train), fingerprint=prepared.fingerprint, arrange=arrange)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=run.lr, fused=True)
        self.total = steps_of(run, self.pruner)
        self.steps = 0
        self.outcome = Outcome()

    def finish(
        self,
        progress: Callable[[int], None] = lambda examples: None,
        save: Callable[[Training], None] = lambda training: None,
    ) -> Outcome:
        """Train to the end of the run, from wherever it is.

        Args:
            progress: Called with the number of examples of each finished step and scoring batch.
            save: Called at the end of each epoch except the last. No state changes during the call.

        Raises:
            FloatingPointError: The loss is not finite.
        """
        batches = BatchSampler(self.pruner.sampler, self.run.batch_size, drop_last=False)
        epochs = self.pruner.epochs(self.run.epochs)
        counts = self.outcome.counts
        while self.steps < self.total:
            with counts.part("select"):
                epoch = next(epochs)
            size = self.pruner.sampler.piece.phase.size
            self.model.train()
            with counts.part("train"):
                loss = self._epoch(batches, progress)
            if not math.isfinite(loss):
                raise FloatingPointError(f"the mean loss of epoch {epoch + 1} is {loss}")
            if self.pruner.wants_scores and self.steps < self.total:
                with counts.part("score"):
                    self.pruner.rescore(lambda index: self._scores(index, progress))
            self.outcome.epochs.append(self._row(epoch, size, loss))
            if self.steps < self.total:
                save(self)
        return self.outcome

    def _epoch(self, batches: BatchSampler, progress: Callable[[int], None]) -> float:
        """Train on the current piece, up to the last step of the run at most. Returns the mean loss of its steps."""
        losses: list[Tensor] = []
        for index in batches:
            losses.append(self._step(torch.tensor(index)))
            progress(len(index))
            if self.steps == self.total:
                break
        return float(torch.stack(losses).mean())

    def _step(self, index: Tensor) -> Tensor:
        pruner = self.pruner
        self.outcome.counts.train.add(self.train.lengths[index])
        logits, batch = forward(self.model, self.train.batch(index), bf16=self.bf16)
        if pruner.method.weighted:
            loss = pruner.mean_loss(example_losses(logits, batch), index)
        else:
            loss = joint_loss(logits, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.run.lr * lr_share(self.run, self.steps, self.total, pruner.n)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        observes = pruner.method.observes
        pruner.observe(index, example_scores(logits, batch, pruner.method.reads) if observes else None)
        self.steps += 1
        return loss.detach()

    def _scores(self, index: Tensor, progress: Callable[[int], None]) -> Mapping[str, Tensor]:
        """The metrics that the method reads, of the examples at ``index``."""
        of_batch = batch_scores(self.model, self.pruner.method.reads, bf16=self.bf16)

        def collate(examples: list[int]) -> dict[str, Tensor]:
            chosen = torch.tensor(examples)
            self.outcome.counts.score.add(self.train.lengths[chosen])
            return self.train.batch(chosen)

        return score_dataset(
            self.model,
            _Positions(len(self.train)),
            lambda batch: of_batch(batch)[0],
            indices=index,
            lengths=self.train.lengths,
            batch_size=SCORING_BATCH_FACTOR * self.run.batch_size,
            collate_fn=collate,
            progress=progress,
        )

    def _row(self, epoch: int, size: int, loss: float) -> dict[str, Any]:
        cycle = self.pruner.cycle
        return {
            "epoch": epoch + 1,
            "kept": round(size / self.pruner.n, 6),
            "threshold": None if math.isnan(cycle.threshold) else cycle.threshold,
            "churn": round(cycle.churn, 6),
            "examples": self.outcome.counts.train.examples,
            "loss": round(loss, 6),
            **cycle.facts,
            **evaluate(self.model, self.prepared, self.run.split, bf16=self.bf16),
        }

    # --- state -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and containers, from which the run continues exactly."""
        cuda = torch.cuda.is_available()
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "pruner": self.pruner.state_dict(),
            "steps": self.steps,
            "outcome": asdict(self.outcome),
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state() if cuda else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state. The global random state becomes that of the run."""
        self.pruner.load_state_dict(state["pruner"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]
        counts = state["outcome"]["counts"]
        works = {name: Work(**counts[name]) for name in ("train", "score")}
        self.outcome = Outcome(list(state["outcome"]["epochs"]), Counts(**works, cpu_seconds=counts["cpu_seconds"]))
        torch.set_rng_state(state["random"])
        if state["cuda_random"] is not None:
            torch.cuda.set_rng_state(state["cuda_random"])


class Saver:
    """Saves a training's state at the end of an epoch, at most every ``seconds`` of CPU time."""

    def __init__(self, write: Callable[[dict[str, Any]], None], seconds: float) -> None:
        self.write = write
        self.seconds = seconds
        self._last = time.process_time()

    def __call__(self, training: Training) -> None:
        if time.process_time() - self._last >= self.seconds:
            self.write(training.state_dict())
            self._last = time.process_time()


class _Positions(Dataset[int]):
    """The numbers 0 … n - 1. `score_dataset` asks for examples, and the token tables are read by number."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> int:
        if not 0 <= index < self.n:
            raise IndexError(index)
        return index
