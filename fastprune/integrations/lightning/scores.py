"""Scores of a Lightning run's batches: from the training step's outputs, and in a pass of their own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from fastprune.integrations.batch_metrics import (
    PASS_BATCH_FACTOR,
    ScoreFn,
    batch_metrics,
    check_batch_size,
    one_each,
)
from fastprune.integrations.bookkeeping import left_as_it_was, nothing
from fastprune.integrations.datasets import lengths
from fastprune.integrations.spans import question_answering
from fastprune.pruning import score_dataset
from fastprune.pruning.scoring import longest_first
from fastprune.scores.last_layer import LastLayers
from fastprune.scores.metrics import needs_states
from fastprune.scores.task import Head, Task

ForwardFn = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class LightningScoring:
    """How batches are scored; the arguments of `PruningCallback` of the same names."""

    task: Task | None = None
    score_fn: ScoreFn | None = None
    forward_fn: ForwardFn | None = None
    score_batch_size: int | None = None

    def __post_init__(self) -> None:
        check_batch_size(self.score_batch_size)

    def of_batch(
        self, outputs: Any, batch: Any, reads: Sequence[str], last_layers: LastLayers | None = None
    ) -> Mapping[str, Tensor]:
        """The metrics of a batch's examples, fp32 (B,) by metric."""
        return batch_metrics(
            outputs, batch, reads, self.score_fn, lambda batch: self.task or task_of_batch(batch), last_layers
        )

    def scoring_pass(
        self, trainer: Any, loader: DataLoader[Any], index: Tensor, reads: Sequence[str]
    ) -> Mapping[str, Tensor]:
        """One forward pass over ``index`` with the run's module, data, collate function, transfer and precision.

        What ``forward`` counts and collects in the module is as it was before, see `left_as_it_was`, and what it logs
        goes nowhere.
        """
        size = self._pass_batch_size(loader)
        return self._over(trainer, loader, index, reads, size, lengths(loader.dataset))

    def first_of_pass(
        self, trainer: Any, loader: DataLoader[Any], index: Tensor, reads: Sequence[str]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The batch with which a pass over ``index`` would begin, and its scores."""
        first = index[longest_first(index, lengths(loader.dataset))[: self._pass_batch_size(loader)]]
        return first, self._over(trainer, loader, first, reads, len(first), None)

    def _pass_batch_size(self, loader: DataLoader[Any]) -> int:
        return self.score_batch_size or PASS_BATCH_FACTOR * (loader.batch_size or 1)

    def _over(
        self,
        trainer: Any,
        loader: DataLoader[Any],
        index: Tensor,
        reads: Sequence[str],
        batch_size: int,
        known: Sequence[int] | None,
    ) -> Mapping[str, Tensor]:
        # The unwrapped module: processes need not wait for each other.
        module, forward, left = trainer.lightning_module, self.forward_fn or forward_batch, len(index)
        last_layers = LastLayers(module, wanted=needs_states(reads) and self.score_fn is None)

        def score_batch(batch: Any) -> Mapping[str, Tensor]:
            nonlocal left
            size, left = min(batch_size, left), left - batch_size
            batch = trainer.precision_plugin.convert_input(batch)
            batch = module._on_before_batch_transfer(batch, dataloader_idx=0)
            batch = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
            with trainer.precision_plugin.forward_context(), last_layers.watch():
                outputs = forward(module, batch)
            return one_each(self.of_batch(outputs, batch, reads, last_layers), size)

        with left_as_it_was(module, loader.collate_fn, apart_from=[trainer], readers=[loader.dataset]):
            module.log = nothing
            return score_dataset(
                module,
                loader.dataset,
                score_batch,
                indices=index,
                lengths=known,
                batch_size=batch_size,
                collate_fn=loader.collate_fn,
            )


def task_of_batch(batch: Any) -> Task:
    """One head: ``labels`` of a mapping, or its start and end positions, or the second part of an ``(x, y)`` pair.

    Raises:
        ValueError: the batch is neither.
    """
    if isinstance(batch, Mapping):
        spans = None if batch.get("labels") is not None else question_answering(batch)
        return Task() if spans is None else spans
    if _is_pair(batch):
        return Task(Head(labels=1))
    raise ValueError(
        f"the labels of a batch ({type(batch).__name__}) are not known: say where with PruningCallback(task="
        "fastprune.Task(fastprune.Head(labels=...))), or pass score_fn"
    )


def forward_batch(module: Any, batch: Any) -> Any:
    """``module(x)`` for an ``(x, y)`` pair; for a mapping ``module(**fields)``, those fields that ``forward`` names.

    Raises:
        ValueError: the batch is neither, or ``forward`` names none of its fields.
    """
    if _is_pair(batch):
        return module(batch[0])
    if isinstance(batch, Mapping):
        parameters = inspect.signature(module.forward).parameters
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            return module(**batch)
        fields = {name: value for name, value in batch.items() if name in parameters}
        if fields:
            return module(**fields)
    raise ValueError(
        f"the scoring pass does not know how {type(module).__name__}.forward takes a batch ({type(batch).__name__}): "
        "pass PruningCallback(forward_fn=lambda module, batch: ...) that returns the logits"
    )


def _is_pair(batch: Any) -> bool:
    return isinstance(batch, (tuple, list)) and len(batch) == 2
