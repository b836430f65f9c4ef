"""The method ``loss``."""

from __future__ import annotations

from fastprune.methods.score_method import ScoreMethod
from fastprune.pruning.method import register
from fastprune.pruning.statistics import Statistic, as_statistic


@register("loss")
def loss(*, smoothing: Statistic | str = "latest", offset: float = 0.0) -> ScoreMethod:
    """Per-example loss, dynamic.

    Source: the ``loss`` mode of the authors' code for arXiv 2306.03208: the paper's procedure with the cross-entropy in
    EL2N's place.
    Rule: before every cycle compute the loss of all examples and keep the k highest.
    Settings: ``smoothing``, by default the latest loss, or a statistic or its text (`as_statistic`).  ``offset`` as in
    `ScoreMethod`.  Advice: if labels may be wrong, set ``offset`` to the share that you expect.
    Reads: ``loss`` from a scoring pass.
    Cost: one forward pass over all N examples a cycle.
    Memory: 12 bytes an example.
    When: to see what EL2N adds.
    When not: loss is unbounded, so outliers and wrong labels rank first.
    """
    return ScoreMethod("loss", metric="loss", source="pass", smoothing=as_statistic(smoothing), offset=offset)
