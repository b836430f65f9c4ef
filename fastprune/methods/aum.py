"""The method ``aum``."""

from __future__ import annotations

from fastprune.methods.score_method import ScoreMethod
from fastprune.pruning.method import register
from fastprune.pruning.statistics import Moments


@register("aum")
def aum(*, offset: float | None = None) -> ScoreMethod:
    """AUM, area under the margin: the mean distance of the label's logit from the best other one.

    Source: Pleiss et al. 2020 (arXiv 2001.10528).
    Rule: AUM = mean over all visits of z_y − max other z, on the logits.  The lowest are suspected to be mislabelled.
    The ``offset`` share of them is dropped.  The next k are kept, hardest first, as CCS does (Zheng et al. 2023).
    Settings: ``offset``, by default 0.1, or less if 0.1 does not leave k.  An offset that you pass is refused if it
    does not leave k.  Advice: set it to the share of labels that you expect to be wrong.
    Reads: ``margin`` from ``observe``.
    Cost: nothing beyond the training step.
    Memory: 12 bytes an example.
    When: labels are noisy.
    When not: early in training, when all margins are near 0.  Give it two epochs of warm-up.
    """
    return ScoreMethod(
        "aum",
        metric="margin",
        source="step",
        smoothing=Moments("mean"),
        offset=0.1 if offset is None else offset,
        offset_yields=offset is None,
    )
