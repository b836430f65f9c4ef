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

from fastprune.methods.auto import Auto
from fastprune.pruning.history import History
from fastprune.pruning.method import Method, get_method
from fastprune.pruning.statistics import Latest
from fastprune.selection import Selection, hardest
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
class DrawByScore(Auto):
    """The rule that became ``auto``, under the name that its trials have."""

    name = "draw-by-score"

    def facts(self, history: History) -> Mapping[str, float]:
        """As for `SkipKnown`."""
        return shares(history, 0.2)


CANDIDATES: dict[str, Method] = {"skip-known": SkipKnown(), "draw-by-score": DrawByScore()}
"""By the name that runs use. They are not registered, because they are not methods of the library.

Their figures on the test split are left out of tables, so that nobody chooses a rule by them.
"""


def find_method(name: str) -> Method:
    """The candidate, or the registered method of that name."""
    return CANDIDATES[name] if name in CANDIDATES else get_method(name)
