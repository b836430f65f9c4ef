"""How an adapter scores batches with the user's options, in the training step and in a scoring pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fastprune.integrations.batch_metrics import one_each
from fastprune.pruning.scoring import longest_first
from fastprune.scores.last_layer import LastLayers
from fastprune.scores.metrics import needs_states
from fastprune.scores.task import Task

ScoreFn = Callable[[Any, Any], Tensor | Mapping[str, Tensor]]
"""``(outputs, batch) -> (B,)`` scores, or a dict of them by metric."""
ScoreBatch = Callable[[Any], Mapping[str, Tensor]]
"""Gives the metrics of a collated batch.  It runs the model on the batch itself."""

PASS_BATCH_FACTOR = 4
"""How many training batches make one batch of a scoring pass.  It can be larger because no backward pass follows."""


@dataclass(frozen=True)
class BatchScoring:
    """The options of `attach` and `PruningCallback` that say how a batch is scored.

    Attributes:
        task: where logits and labels are.  With None the framework's adapter finds them.
        score_fn: gives the scores in place of the task.
        score_batch_size: batch size of a scoring pass.  None means `PASS_BATCH_FACTOR` times the training batch.

    Raises:
        ValueError: ``score_batch_size`` is below 1.
    """

    task: Task | None = None
    score_fn: ScoreFn | None = None
    score_batch_size: int | None = None

    def __post_init__(self) -> None:
        size = self.score_batch_size
        if size is not None and (isinstance(size, bool) or size < 1):
            raise ValueError(f"score_batch_size must be >= 1, got {size!r}; leave it out for the default")

    def metrics(
        self,
        outputs: Any,
        batch: Any,
        reads: Sequence[str],
        find_task: Callable[[Any], Task],
        last_layers: LastLayers | None = None,
    ) -> Mapping[str, Tensor]:
        """The metrics ``reads`` of a batch's examples, (B,) each.

        Args:
            outputs: the model's outputs.
            batch: the batch that the model was given.
            reads: names of metrics.
            find_task: returns the task of this batch.  It is called only if the user gave neither ``task`` nor
                ``score_fn``.
            last_layers: the object that watched the forward pass, for metrics that need "states", such as grand.
        """
        with torch.no_grad():
            if self.score_fn is not None:
                scores = self.score_fn(outputs, batch)
                return scores if isinstance(scores, Mapping) else dict.fromkeys(reads, scores)
            task = self.task or find_task(batch)
            features = None if last_layers is None else last_layers.features(task.logits(outputs))
            return task.scores(outputs, batch, reads, features)

    def last_layers(self, model: nn.Module, reads: Sequence[str]) -> LastLayers:
        """The object that watches a forward pass, if one of the metrics needs it."""
        return LastLayers(model, wanted=needs_states(reads) and self.score_fn is None)

    def pass_batch_size(self, training: int) -> int:
        """Examples in a batch of a scoring pass, for training batches of ``training`` examples."""
        return self.score_batch_size or PASS_BATCH_FACTOR * training


def first_batch(index: Tensor, lengths: Sequence[int] | Tensor | None, size: int) -> Tensor:
    """The first batch of a pass over ``index`` in batches of ``size``."""
    return index[longest_first(index, lengths)[:size]]


def one_score_each(score_batch: ScoreBatch, examples: int, batch_size: int) -> ScoreBatch:
    """``score_batch`` for the batches of one pass over ``examples`` examples.  Each result is checked by `one_each`."""
    left = examples

    def checked(batch: Any) -> Mapping[str, Tensor]:
        nonlocal left
        size, left = min(batch_size, left), left - batch_size
        return one_each(score_batch(batch), size)

    return checked
