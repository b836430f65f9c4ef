"""The method ``grand``."""

from __future__ import annotations

from fastprune.methods.score_method import ScoreMethod
from fastprune.pruning.method import register
from fastprune.pruning.statistics import Statistic, as_statistic


@register("grand")
def grand(*, smoothing: Statistic | str = "latest", offset: float = 0.0) -> ScoreMethod:
    """GraNd, dynamic: the norm of each example's gradient.

    Source: Paul et al. 2021 (arXiv 2107.07075), GraNd = ‖∇_w L(x, y)‖₂, and the ``grand`` mode of the authors' code for
    arXiv 2306.03208.  On the last layer alone, as here by default, it is that of Fayyaz et al. 2022 (arXiv 2211.05610).
    Rule: before every cycle compute the score of all examples and keep the k highest.
    Settings: ``smoothing``, by default the latest score, or a statistic or its text (`as_statistic`).  ``offset`` as in
    `ScoreMethod`.  Advice: as for ``el2n``, and compare with that first.  On ATIS at 0.5 both gave about the same
    (exact match 86.9 and 86.2, one seed).
    Reads: ``grand`` from a scoring pass.  `fastprune.grand` of the logits and the last layer's inputs is exact for the
    last layer's weights and bias.  `fastprune.per_sample_grand` is exact for all parameters.
    Cost: for the last layer one forward pass over all N examples a cycle and C + d multiplications an example.  For all
    parameters a backward pass per example as well.
    Memory: 12 bytes an example.
    When: classes differ in how large their features are, so that EL2N alone misjudges the step an example takes.
    When not: as ``el2n``.  Early scores are unreliable (Fayyaz et al. see label-imbalanced tops before one epoch).
    """
    return ScoreMethod("grand", metric="grand", source="pass", smoothing=as_statistic(smoothing), offset=offset)
