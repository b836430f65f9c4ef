"""Checks that a batch has one score for each example, and prepares a cycle's log."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from fastprune.pruning import DynamicPruner


def loggable(pruner: DynamicPruner) -> dict[str, float]:
    """What a logger gets about the newest cycle: ``pruner.log()`` without NaN.

    For example, a method without scores has no threshold.
    """
    return {key: value for key, value in pruner.log().items() if math.isfinite(value)}


def one_each(scores: Mapping[str, Tensor], examples: int) -> Mapping[str, Tensor]:
    """The scores, if there is one for each example of the batch.

    Raises:
        ValueError: the number of scores differs from that of the examples.
    """
    found = counts(scores)
    if found - {examples}:
        raise ValueError(
            f"a batch of {examples} examples gave {min(found)} scores: the collate function packs examples into one "
            "row or drops some, or score_fn returns another number; keep one row for each example, or pass "
            "a score_fn that returns one score for each example"
        )
    return scores


def without_owners(index: Tensor, scores: Mapping[str, Tensor]) -> str | None:
    """A text that says how the number of scores differs from that of the examples.  None if it does not."""
    found = counts(scores)
    if found == {len(index)}:
        return None
    return f"a batch should hold {len(index)} examples, its scores are for {sorted(found)}"


def counts(scores: Mapping[str, Tensor]) -> set[int]:
    """How many scores each metric has, without repeats.  If all is well, it is one number."""
    return {len(values) if values.ndim else 1 for values in scores.values()}
