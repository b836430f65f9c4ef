"""Whether the metrics of a batch fit its examples, and what is logged of a cycle."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from fastprune.pruning import DynamicPruner


def loggable(pruner: DynamicPruner) -> dict[str, float]:
    """The newest cycle for a logger.

    It is ``pruner.log()`` without NaN, such as the threshold of a method without scores.
    """
    return {key: value for key, value in pruner.log().items() if math.isfinite(value)}


def one_each(scores: Mapping[str, Tensor], examples: int) -> Mapping[str, Tensor]:
    """The scores, if there is one for each example of the batch.

    Raises:
        ValueError: there is another number of them.
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
    """How the number of scores differs from that of the examples in the batch, in words.  None if it does not."""
    found = counts(scores)
    if found == {len(index)}:
        return None
    return f"a batch should hold {len(index)} examples, its scores are for {sorted(found)}"


def counts(scores: Mapping[str, Tensor]) -> set[int]:
    """The numbers of scores that the metrics have.  It is one number if all is well."""
    return {len(values) if values.ndim else 1 for values in scores.values()}
