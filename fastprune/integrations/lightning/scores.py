"""Scores of a Lightning run's batches, from the training step's outputs or from a scoring pass."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from fastprune.integrations.batch_scoring import BatchScoring, first_batch, one_score_each
from fastprune.integrations.bookkeeping import left_as_it_was, nothing
from fastprune.integrations.datasets import lengths
from fastprune.integrations.spans import question_answering
from fastprune.pruning import score_dataset
from fastprune.scores.last_layer import LastLayers
from fastprune.scores.task import Head, Task

ForwardFn = Callable[[Any, Any], Any]


class LightningScores:
    """Computes the metrics that a method reads for the batches of a Lightning run.

    Args:
        scoring: the user's options.
        forward_fn: returns a module's outputs for a batch of a scoring pass.  None means `forward_batch`.
        reads: the metrics.
    """

    def __init__(self, scoring: BatchScoring, forward_fn: ForwardFn | None, reads: tuple[str, ...]) -> None:
        self.scoring = scoring
        self.forward_fn = forward_fn or forward_batch
        self.reads = reads

    def of_batch(self, outputs: Any, batch: Any, last_layers: LastLayers | None = None) -> Mapping[str, Tensor]:
        """The metrics of a batch's examples, fp32 (B,) by metric."""
        return self.scoring.metrics(outputs, batch, self.reads, task_of_batch, last_layers)

    def scoring_pass(self, trainer: Any, loader: DataLoader[Any], index: Tensor) -> Mapping[str, Tensor]:
        """One forward pass over ``index`` with the run's module, data, collate function, transfer and precision.

        What ``forward`` counts and collects in the module is put back, see `left_as_it_was`.  What it logs is dropped.
        """
        return self._over(trainer, loader, index, self._pass_batch_size(loader), lengths(loader.dataset))

    def first_of_pass(
        self, trainer: Any, loader: DataLoader[Any], index: Tensor
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The batch with which a pass over ``index`` would begin, and its scores."""
        first = first_batch(index, lengths(loader.dataset), self._pass_batch_size(loader))
        return first, self._over(trainer, loader, first, len(first), None)

    def _pass_batch_size(self, loader: DataLoader[Any]) -> int:
        return self.scoring.pass_batch_size(loader.batch_size or 1)

    def _over(
        self, trainer: Any, loader: DataLoader[Any], index: Tensor, batch_size: int, known: Sequence[int] | None
    ) -> Mapping[str, Tensor]:
        module = trainer.lightning_module  # unwrapped, so that processes do not wait for each other
        last_layers = self.scoring.last_layers(module, self.reads)

        def score_batch(batch: Any) -> Mapping[str, Tensor]:
            batch = trainer.precision_plugin.convert_input(batch)
            batch = module._on_before_batch_transfer(batch, dataloader_idx=0)
            batch = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
            with trainer.precision_plugin.forward_context(), last_layers.watch():
                outputs = self.forward_fn(module, batch)
            return self.of_batch(outputs, batch, last_layers)

        with left_as_it_was(module, loader.collate_fn, apart_from=[trainer], readers=[loader.dataset]):
            module.log = nothing
            return score_dataset(
                module,
                loader.dataset,
                one_score_each(score_batch, len(index), batch_size),
                indices=index,
                lengths=known,
                batch_size=batch_size,
                collate_fn=loader.collate_fn,
            )


def task_of_batch(batch: Any) -> Task:
    """The task of one head.

    Its labels are the field ``labels`` of a mapping, the start and end positions, or the second part of an ``(x, y)``
    pair.

    Raises:
        ValueError: the batch is none of these.
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
    """Run a module on a batch.

    It calls ``module(x)`` for an ``(x, y)`` pair.  For a mapping it calls ``module(**fields)`` with the fields that
    ``forward`` names.

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
