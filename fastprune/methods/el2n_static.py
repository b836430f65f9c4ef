"""The method ``el2n-static``."""

from __future__ import annotations

from fastprune.methods.score_method import ScoreMethod
from fastprune.pruning.method import register


@register("el2n-static")
def el2n_static(*, offset: float = 0.0) -> ScoreMethod:
    """EL2N, static: score once after the warm-up, train on that subset to the end.

    Source: Paul et al. 2021 (arXiv 2107.07075), as the static baseline of arXiv 2306.03208.
    Rule: make one scoring pass after ``warmup_epochs``.  Every cycle keeps the same k highest.
    Settings: ``offset`` as in `ScoreMethod`.  Advice: scores of the first epochs are noisy, and this method never
    renews them.  So raise ``warmup_epochs`` before anything else.
    Reads: ``el2n`` from one scoring pass.
    Cost: one forward pass over all N examples in the whole run.
    Memory: 12 bytes an example.
    When: as the baseline the dynamic methods must beat, or when the subset itself is what you want.
    When not: to train best.  What is hard early is not what is hard late, and the paper finds the dynamic form better.
    """
    return ScoreMethod("el2n-static", metric="el2n", source="once", offset=offset)
