"""The shape many methods share: rank by one number, keep the hardest k after an offset."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from fastprune.methods.ranking import keep_hardest
from fastprune.methods.unscored import check_fits, check_offset, fitting_offset, unscored_first
from fastprune.pruning.history import History
from fastprune.pruning.method import Method, Pass
from fastprune.pruning.statistics import Latest, Moments, Statistic, is_oriented
from fastprune.scores.metrics import is_discrete, is_hard_where_small
from fastprune.selection import Selection, random
from fastprune.selection.by_rank import floor_of_share
from fastprune.selection.ties import Ties

ScoreSource = Literal["pass", "once", "step"]
"""Where scores come from.

``pass`` is a scoring pass over all examples before every cycle (the paper's procedure).  ``once`` is one pass, before
the first scored cycle (static pruning).  ``step`` is the training steps themselves, with no extra forward pass.
"""


@dataclass(frozen=True)
class ScoreMethod(Method):
    """Keep the k hardest examples by ``metric`` after dropping the hardest ``offset`` share.

    Args:
        name: what tables and logs call it.
        metric: the score it ranks by.  `fastprune.scores.metrics` says which end is hard.  If the name is not there,
            because your ``score_fn`` gives the metric, large values are hard.
        source: where the scores come from.
        smoothing: how scores over time become one.
        offset: share of all examples dropped from the hard end first (the paper's ``prune_offset``), in [0, 1).
            Mislabelled examples gather there.  If it leaves fewer examples than a run keeps, the run is refused.
        rescore_every: with ``step``, a scoring pass renews the scores of the *pruned* examples every ``rescore_every``
            cycles.  Until then they keep the scores of their last training step.  0 means that no pass is made.
        reentry: share of the k kept that is drawn at random from the others, in [0, 1).
        least_warmup: how many epochs on all examples the statistic needs before it can differ between examples.
        offset_yields: whether the offset shrinks if it leaves fewer than k examples, as a default offset does.

    Example:
        >>> from fastprune import DynamicPruner
        >>> method = ScoreMethod("hard-loss", metric="loss", source="step", offset=0.05)
        >>> pruner = DynamicPruner(100, keep_fraction=0.5, method=method)
        >>> pruner.method.reads
        ('loss',)
    """

    name: str
    metric: str = "el2n"
    source: ScoreSource = "pass"
    smoothing: Statistic = field(default_factory=Latest)
    offset: float = 0.0
    rescore_every: int = 0
    reentry: float = 0.0
    least_warmup: int = 0
    offset_yields: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        check_offset(self.offset)
        if self.rescore_every < 0 or (self.rescore_every and self.source != "step"):
            raise ValueError(
                f"rescore_every must be >= 0, and 0 unless source is 'step', got {self.rescore_every!r} with "
                f"{self.source!r}"
            )
        if not 0.0 <= self.reentry < 1.0:
            raise ValueError(f"reentry is a share of the kept examples and must be in [0, 1), got {self.reentry!r}")

    @property
    def statistics(self) -> dict[str, Statistic]:  # type: ignore[override]
        """The one metric that the method ranks by, with its smoothing."""
        return {self.metric: self.smoothing}

    @property
    def most_classes(self) -> int | None:  # type: ignore[override]
        """The limit of its statistic, if that has one."""
        return getattr(self.smoothing, "most_classes", None)

    @property
    def ties(self) -> Ties:
        """Which examples are kept among equal scores.

        If the metric has few distinct values, a seeded draw decides.  Otherwise the smaller index does.
        """
        return "random" if is_discrete(self.metric) else "index"

    @property
    def rule_version(self) -> int:  # type: ignore[override]
        """1, and one more for each part of the rule that has changed since version 0.1.

        These are the draw among ties, and metrics whose small values are hard.
        """
        turned = is_hard_where_small(self.metric) and is_oriented(self.smoothing)
        always_was = isinstance(self.smoothing, Moments)
        return 1 + (self.ties == "random") + (turned and not always_was)

    @property
    def observes(self) -> bool:  # type: ignore[override]
        """True if the training steps' scores are used."""
        return self.source == "step"

    @property
    def constant(self) -> bool:  # type: ignore[override]
        """With scores of one pass the kept set never changes."""
        return self.source == "once"

    def scoring_pass(self, history: History, cycle: int) -> Pass | None:
        """All examples before every cycle, all before the first cycle alone, or the pruned ones now and then."""
        if self.source == "pass" or (self.source == "once" and history.empty):
            return "all"
        return "pruned" if self.rescore_every and cycle > 1 and (cycle - 1) % self.rescore_every == 0 else None

    def check_keep(self, n: int, k: int) -> None:
        """Refuse an offset that leaves fewer examples than the ranking has to keep."""
        if not self.offset_yields:
            check_fits(self.name, self.offset, n, k - self._drawn(n, k))

    def select(self, history: History, k: int, *, cycle: int, epoch: int, seed: int) -> Selection:
        """The hardest below the offset, and the re-entering share, in O(n)."""
        value = history.value(self.metric)

        def hardest(scored: Tensor, count: int) -> Selection:
            offset = fitting_offset(self.offset, len(scored), count)
            return keep_hardest(self.name, value[scored], count, offset=offset, ties=self.ties, seed=seed, cycle=cycle)

        drawn = self._drawn(history.n, k)
        ranked = unscored_first(history, k - drawn, hardest, cycle=cycle, seed=seed)
        return ranked if not drawn else Selection(_with_drawn(ranked.indices, drawn, history.n, seed, cycle))

    def _drawn(self, n: int, k: int) -> int:
        """How many of the k are drawn from the pruned."""
        return min(floor_of_share(self.reentry, k), n - k)


def _with_drawn(kept: Tensor, count: int, n: int, seed: int, cycle: int) -> Tensor:
    """``kept`` and ``count`` of the other examples, uniformly, ascending."""
    free = torch.ones(n, dtype=torch.bool, device=kept.device)
    free[kept] = False
    others = free.nonzero().flatten()
    drawn = others[random(len(others), count, seed=seed, round=cycle).indices.to(kept.device)]
    return torch.cat([kept, drawn]).sort().values
