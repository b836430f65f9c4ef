"""Rules that were tried for the method ``auto``, as methods that runs can name.

A rule that earned its place is in `fastprune.methods`.  The others stay here, so that their figures can be made
again.  `results/evidence/design.md` says what each was expected to do, and what it did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from fastprune.methods.auto import draw_from_hardest
from fastprune.methods.unscored import unscored_first
from fastprune.pruning.history import History
from fastprune.pruning.method import Method, get_method
from fastprune.pruning.statistics import Latest, State
from fastprune.selection import Selection, hardest, random
from fastprune.selection.draws import uniforms


@dataclass(frozen=True, kw_only=True)
class SkipKnown(Method):
    """A random order, from which examples that the model knows are left out as long as there are others.

    Rule: first the examples that were never trained on, then the unknown ones, then the known ones. In each of the
    three groups those come first that were trained on the longest ago, in random order. An example is known if its last
    EL2N was below ``known``.
    """

    known: float = 0.2
    name = "skip-known"
    warmup_epochs = 0
    observes = True
    statistics = MappingProxyType({"el2n": Latest()})

    def select(self, history: History, k: int, *, cycle: int, epoch: int, seed: int) -> Selection:
        """The first k in the order of the rule."""
        unknown = history.value("el2n").cpu() >= self.known
        return hardest(rank_by_rest(history, unknown, epoch=epoch, seed=seed, cycle=cycle), k)

    def facts(self, history: History) -> Mapping[str, float]:
        """The shares of examples that were trained on, and that are unknown or far from known."""
        return shares(history, self.known)


def shares(history: History, known: float) -> dict[str, float]:
    """Shares of all examples, by their last EL2N."""
    last = history.value("el2n").cpu()
    seen = history.visits.cpu() > 0
    return {
        "seen": float(seen.float().mean()),
        "unknown": float((seen & (last >= known)).float().mean()),
        "wrong": float((seen & (last >= 1.0)).float().mean()),
        "far": float((seen & (last >= 1.2)).float().mean()),
    }


def rank_by_rest(history: History, first: Tensor, *, epoch: int, seed: int, cycle: int) -> Tensor:
    """A number for each example that is larger the earlier it comes, fp64 (n,).

    Never trained on, then those of ``first``, then the rest. In each group by epochs of rest, and then at random.
    """
    seen = history.scored_epoch.cpu()
    group = torch.where(seen < 0, 2.0, first.double())
    rest = (epoch - seen).double()
    return group * 2.0**20 + rest + uniforms(history.n, seed, cycle).double()


@dataclass(frozen=True, kw_only=True)
class DrawByScore(Method):
    """A draw in proportion to a power of the latest EL2N, with those that were never trained on first."""

    power: float = 1.0
    name = "draw-by-score"
    warmup_epochs = 0
    observes = True
    statistics = MappingProxyType({"el2n": Latest()})

    def select(self, history: History, k: int, *, cycle: int, epoch: int, seed: int) -> Selection:
        """A draw of (seed, cycle)."""
        score = history.value("el2n").cpu()
        return draw_from_hardest(self.name, history, score, k, power=self.power, cycle=cycle, seed=seed)

    def facts(self, history: History) -> Mapping[str, float]:
        """As for `SkipKnown`."""
        return shares(history, 0.2)


@dataclass(frozen=True)
class Levels:
    """The latest value, and the mean values of the steps of the first and of the latest visit.

    A step's mean tells how much the model knew at that time.  It is noisy, because a step has few examples.
    """

    oriented = True
    bytes_per_example = 12

    def new_state(self, n: int) -> State:
        """Zeros."""
        return {name: torch.zeros(n) for name in ("latest", "level", "first_level")}

    def update(self, state: State, index: Tensor, values: Tensor, visits: Tensor) -> None:
        """Overwrite the value and the level, and keep the first level."""
        level = values.mean().expand(len(index))
        state["latest"][index] = values
        state["level"][index] = level
        state["first_level"][index] = torch.where(visits == 0, level, state["first_level"][index])

    def value(self, state: State, visits: Tensor) -> Tensor:
        """The latest value."""
        return state["latest"].clone()


@dataclass(frozen=True, kw_only=True)
class LearnedDraw(Method):
    """A draw in proportion to a power of EL2N, which is larger the more was learned while everything was new.

    Rule: examples that were never trained on come first.  For the others the power is the mean EL2N of the first steps
    over that of the last steps in which examples were new, minus 1, and at most ``most``.  Steps are taken by their
    means: the first ones are the 1/16 with the largest means, and the last ones the 1/4 with the smallest.  So a model
    that learns nothing draws at random.  With ``relative`` a score is divided by the mean of its step, because a score
    of the run's beginning is large for every example.
    """

    relative: bool = False
    most: float = 8.0
    name = "learned-draw"
    warmup_epochs = 0
    observes = True
    statistics = MappingProxyType({"el2n": Levels()})

    def select(self, history: History, k: int, *, cycle: int, epoch: int, seed: int) -> Selection:
        """A draw of (seed, cycle)."""
        state = history.state("el2n")
        score = state["latest"].cpu()
        if self.relative:
            score = score / state["level"].cpu().clamp_min(1e-12)
        return draw_from_hardest(self.name, history, score, k, power=self.power(history), cycle=cycle, seed=seed)

    def power(self, history: History) -> float:
        """0 if nothing was learned, and ``most`` at most."""
        seen = history.visits.cpu() > 0
        levels = history.state("el2n")["first_level"].cpu()[seen].double().sort().values
        if not len(levels):
            return 0.0
        low = float(levels[: max(1, len(levels) // 4)].mean())
        high = float(levels[-max(1, len(levels) // 16) :].mean())
        return min(self.most, high / max(low, 1e-12) - 1.0)

    def facts(self, history: History) -> Mapping[str, float]:
        """The power, and the shares as for `SkipKnown`."""
        return {**shares(history, 0.2), "power": self.power(history)}


@dataclass(frozen=True, kw_only=True)
class GuardedCut(LearnedDraw):
    """The hardest examples, as soon as the mean EL2N has halved while everything was new.  Until then at random.

    Rule: examples that were never trained on come first.  Of the others the k with the largest latest EL2N, if the
    power of `LearnedDraw` is at least 1, and else k at random.
    """

    name = "guarded-cut"

    def select(self, history: History, k: int, *, cycle: int, epoch: int, seed: int) -> Selection:
        """The cut, or a draw of (seed, cycle)."""
        score = history.state("el2n")["latest"].cpu()
        learned = self.power(history) >= 1.0

        def choose(scored: Tensor, count: int) -> Selection:
            if not learned:
                return random(len(scored), count, seed=seed, round=cycle)
            return hardest(score[scored.cpu()], count)

        return unscored_first(history, k, choose, cycle=cycle, seed=seed)


@dataclass(frozen=True, kw_only=True)
class PoolDraw(LearnedDraw):
    """A draw in proportion to EL2N: from all examples, and from the hardest of them once the model has learned.

    Rule: examples that were never trained on come first.  The others are drawn in proportion to their latest EL2N.
    Once the power of `LearnedDraw` is at least 1, only the hardest ``pool`` of them are drawn from, or the hardest k if
    those are more.
    """

    pool: float = 0.4
    name = "pool-draw"

    def select(self, history: History, k: int, *, cycle: int, epoch: int, seed: int) -> Selection:
        """A draw of (seed, cycle)."""
        score = history.state("el2n")["latest"].cpu()
        share = self.pool if self.power(history) >= 1.0 else 1.0
        return draw_from_hardest(self.name, history, score, k, share=share, cycle=cycle, seed=seed)


CANDIDATES: dict[str, Method] = {
    "skip-known": SkipKnown(),
    "draw-by-score": DrawByScore(),
    "learned-draw": LearnedDraw(),
    "guarded-cut": GuardedCut(),
    "pool-draw": PoolDraw(),
}
"""By the name that runs use. They are not registered, because they are not methods of the library.

Their figures on the test split are left out of tables, so that nobody chooses a rule by them.
"""


def find_method(name: str) -> Method:
    """The candidate, or the registered method of that name."""
    return CANDIDATES[name] if name in CANDIDATES else get_method(name)
