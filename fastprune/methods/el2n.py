"""The method ``el2n``."""

from __future__ import annotations

from fastprune.methods.score_method import ScoreMethod
from fastprune.pruning.method import register
from fastprune.pruning.statistics import Statistic, as_statistic


@register("el2n")
def el2n(*, smoothing: Statistic | str = "latest", offset: float = 0.0) -> ScoreMethod:
    """EL2N, dynamic: the procedure of the paper.

    Source: "NLU on Data Diets", Attendu & Corbeil 2023 (arXiv 2306.03208), Figure 1.  The score is that of Paul et al.
    2021 (arXiv 2107.07075), EL2N = ‖softmax(z) − onehot(y)‖₂.  With several heads it is the norm over all of them.
    Rule: before every cycle score *all* examples with the current model and keep the k highest.  Pruned examples come
    back as soon as they rank again.
    Settings: ``smoothing``, the latest score as in the authors' GLUE script, or a statistic or its text
    (`as_statistic`).  ``offset`` as in `ScoreMethod`.  Advice: begin with ``keep_fraction=0.5`` and ``cycle_epochs=2``
    or more.  On ATIS a cycle changed only 3 % of the kept set, with smoothed scores.  So longer cycles lose little.
    Reads: ``el2n`` from a scoring pass.
    Cost: one forward pass over all N examples a cycle.
    Memory: 12 bytes an example (latest score), or 16 with ``smoothing=EMA(deviation=1.0)``, the authors' joint NLU
    default.
    When: the cycle is long enough to pay for the pass (T ≥ 3) and labels are clean.
    When not: with label noise (raise ``offset``), or when keeping under about 30 %, where published evidence is that
    random subsets win.
    """
    return ScoreMethod("el2n", metric="el2n", source="pass", smoothing=as_statistic(smoothing), offset=offset)
