"""What the Trainer and Lightning share: the metrics of a batch, from the task or a ``score_fn``, and what is logged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fastprune.pruning import DynamicPruner
from fastprune.scores.last_layer import LastLayers
from fastprune.scores.task import Task

ScoreFn = Callable[[Any, Any], Tensor | Mapping[str, Tensor]]
"""``(outputs, batch) -> (B,)`` scores, or a dict of them by metric."""


PASS_BATCH_FACTOR = 4
"""A scoring pass reads so many times the training batch at once: nothing is kept for a backward pass."""


def loggable(pruner: DynamicPruner) -> dict[str, float]:
    """The newest cycle for a logger: ``pruner.log()`` without NaN, such as the threshold of a method without scores."""
    return {key: value for key, value in pruner.log().items() if math.isfinite(value)}


def check_batch_size(size: int | None) -> None:
    """Refuse a ``score_batch_size`` before the run, not after its warm-up."""
    if size is not None and (isinstance(size, bool) or size < 1):
        raise ValueError(f"score_batch_size must be >= 1, got {size!r}; leave it out for the default")


def batch_metrics(
    outputs: Any,
    batch: Any,
    reads: Sequence[str],
    score_fn: ScoreFn | None,
    find_task: Callable[[Any], Task],
    last_layers: LastLayers | None = None,
) -> Mapping[str, Tensor]:
    """The metrics ``reads`` of a batch's examples, (B,) each.

    Args:
        find_task: where logits and labels of this batch are; asked only without ``score_fn``.
        last_layers: which watched the forward pass, for metrics that need "states", such as grand.
    """
    with torch.no_grad():
        if score_fn is not None:
            scores = score_fn(outputs, batch)
            return scores if isinstance(scores, Mapping) else dict.fromkeys(reads, scores)
        task = find_task(batch)
        features = None if last_layers is None else last_layers.features(task.logits(outputs))
        return task.scores(outputs, batch, reads, features)


def one_each(scores: Mapping[str, Tensor], examples: int) -> Mapping[str, Tensor]:
    """The scores, if there is one for each example of the batch.

    Raises:
        ValueError: there is another number of them.
    """
    found = counts(scores)
    if found - {examples}:
        raise ValueError(
            f"a batch of {examples} examples gave {min(found)} scores: the collate function packs examples into one "
            "row or drops some, or score_fn returns another number; set packing=False and padding_free=False, or pass "
            "a score_fn that returns one score for each example"
        )
    return scores


def without_owners(index: Tensor, scores: Mapping[str, Tensor]) -> str | None:
    """How the scores' number differs from that of the examples in the batch; None if it does not."""
    found = counts(scores)
    if found == {len(index)}:
        return None
    return f"a batch should hold {len(index)} examples, its scores are for {sorted(found)}"


def counts(scores: Mapping[str, Tensor]) -> set[int]:
    """The numbers of scores that the metrics have: one number if all is well."""
    return {len(values) if values.ndim else 1 for values in scores.values()}
