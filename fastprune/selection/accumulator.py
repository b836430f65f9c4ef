"""`TopK`: the exact selection of scores that come in pieces."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastprune.selection.checks import NanPolicy, as_tensor, check_count, check_nan_policy, check_scores, refuse_nan
from fastprune.selection.keys import order_keys
from fastprune.selection.ties import Ties, check_ties
from fastprune.selection.topk import select_drawn, select_topk


class TopK:
    """Keeps the k largest of all scores pushed so far, for scores that arrive in chunks or do not fit in memory.

    `result` is what `select_topk` gives for all scores at once, whatever the chunks and the order they come in. For
    ties an id is what an index is there.

    Args:
        k: how many to keep, at least 0.
        largest, nan: as for `select_topk`; with nan="raise" a chunk that holds a NaN is refused as a whole.
        ties, seed, round: as for `select_topk`. "index" keeps the smaller ids of the equal scores at the threshold;
            "random" keeps a part of them, drawn from (seed, round, id).

    Raises:
        ValueError: k is negative, nan or ties is no rule.
        TypeError: k, seed or round is not an integer.

    Memory: O(k + the largest chunk). Cost: a chunk is compared with the threshold so far; what passes is
    collected, and selected from when it has grown to k, so O(1) a score and O(log k) one that is kept for a while.

    >>> best = TopK(2, ties="random", seed=0)
    >>> for chunk in ([0, 1, 2], [3, 4, 5]):
    ...     best.push(torch.tensor(chunk), torch.tensor([1.0, 0.0, 1.0]))
    >>> best.result()[0].tolist() == select_topk(torch.tensor([1.0, 0, 1, 1, 0, 1]), 2, ties="random", seed=0).tolist()
    True
    """

    def __init__(
        self,
        k: int,
        *,
        largest: bool = True,
        nan: NanPolicy = "raise",
        ties: Ties = "index",
        seed: int = 0,
        round: int = 0,
    ) -> None:
        self.k = check_count(k)
        self.largest = bool(largest)
        self.nan = check_nan_policy(nan)
        self.ties = check_ties(ties)
        self.seed = operator.index(seed)
        self.round = operator.index(round)
        self.pushed = 0
        self._ids: list[Tensor] = []
        self._scores: list[Tensor] = []
        self._held = 0
        self._threshold: Tensor | None = None  # the key of the k-th so far

    def push(self, ids: Tensor | np.ndarray, scores: Tensor | np.ndarray) -> None:
        """Adds examples.

        Args:
            ids: (n,) integers of [0, 2^63) that name the examples, each pushed once, in any order.
            scores: (n,) of a dtype that `select_topk` takes, the same in every call, and on the same device.

        Raises:
            ValueError: shapes differ, a score is NaN (nan="raise"), the dtype or device is not that of the calls
                before, an id is negative. Nothing of the chunk is taken then. Or an id was pushed twice: that is found
                later, if at all, and leaves the accumulator unusable.
            TypeError: ids are not integers, scores are of a dtype that `select_topk` does not take.
        """
        scores, ids = as_tensor(scores), as_tensor(ids)
        check_scores(scores)
        if len(scores) and ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
            raise TypeError(f"ids must be integers, got {ids.dtype}")
        if ids.shape != scores.shape:
            raise ValueError(f"ids must have the scores' shape {tuple(scores.shape)}, got {tuple(ids.shape)}")
        if self._scores and (scores.dtype, scores.device) != (self._scores[0].dtype, self._scores[0].device):
            raise ValueError(
                f"scores are {scores.dtype} on {scores.device}, those before were {self._scores[0].dtype} on "
                f"{self._scores[0].device}; convert them"
            )
        if len(ids) == 0:
            return
        ids = ids.to(scores.device, torch.int64)
        if ids.min() < 0:
            raise ValueError(f"ids must be in [0, 2^63), got {int(ids.min())}; number the examples from 0")
        if self.nan == "raise" and scores.is_floating_point() and bool((missing := scores.isnan()).any()):
            at = int(missing.to(torch.uint8).argmax())
            refuse_nan(at, f"scores[{at}] (id {int(ids[at])})")
        self.pushed += len(ids)
        if self._threshold is not None:
            passing = order_keys(scores, largest=self.largest, nan=self.nan) >= self._threshold
            ids, scores = ids[passing], scores[passing]
            if len(ids) == 0:
                return
        # Copies, or a slice of a chunk would keep all of it, or change with it.
        self._ids.append(ids.clone())
        self._scores.append(scores.clone())
        self._held += len(ids)
        # Not too many pieces either: each takes a kilobyte beside its scores.
        if self._held > 2 * self.k + 1024 or len(self._ids) > 256:
            self._compact()

    def merge(self, other: TopK) -> None:
        """Adds what another accumulator of the same settings was pushed; it stays as it is."""
        if other is self:
            raise ValueError("other must be another accumulator, got this one")
        mine, theirs = self._settings(), other._settings()
        if mine != theirs:
            raise ValueError(f"other must have the same settings {mine}, got {theirs}")
        if other._scores:
            pushed = self.pushed + other.pushed
            self.push(*other.result())
            self.pushed = pushed

    def result(self) -> tuple[Tensor, Tensor]:
        """(ids, scores) of what is kept: both (min(k, pushed),), ids int64 and ascending, scores as pushed.

        Before the first push both are empty, and the scores float32.

        Raises:
            ValueError: an id was pushed twice, and is kept twice.
        """
        self._compact()
        if not self._scores:
            return torch.empty(0, dtype=torch.int64, device="cpu"), torch.empty(0, dtype=torch.float32, device="cpu")
        return self._ids[0].clone(), self._scores[0].clone()

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes: settings, and (k,) ids and scores."""
        ids, scores = self.result()
        return self._settings() | {"pushed": self.pushed, "ids": ids, "scores": scores}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict`; what was pushed here before is forgotten."""
        # What was saved before there was a choice of ties has none: its ties went by index.
        drawn = {name: state[name] for name in ("ties", "seed", "round") if name in state}
        fresh = TopK(state["k"], largest=state["largest"], nan=state["nan"], **drawn)
        if state["pushed"]:
            fresh.push(state["ids"], state["scores"])
        fresh.pushed = state["pushed"]
        self.__dict__ = fresh.__dict__

    def _settings(self) -> dict[str, Any]:
        names = ("k", "largest", "nan", "ties", "seed", "round")
        return {name: getattr(self, name) for name in names}

    def _compact(self) -> None:
        """Down to the k best, in order of id, so that ties go to the smaller one."""
        if not self._scores:
            return
        ids, order = torch.cat(self._ids).sort()
        scores = torch.cat(self._scores)[order]
        twice = (ids[1:] == ids[:-1]).nonzero()
        if len(twice):
            raise ValueError(f"id {int(ids[twice[0]])} was pushed twice; push each example once")
        if len(ids) > self.k:
            if self.ties == "random":
                kept = select_drawn(scores, self.k, self.largest, self.nan, self.seed, self.round, ids)
            else:
                kept = select_topk(scores, self.k, largest=self.largest, nan=self.nan)
            ids, scores = ids[kept], scores[kept]
        self._ids, self._scores, self._held = [ids], [scores], len(ids)
        if self.k and len(ids) == self.k:
            self._threshold = order_keys(scores, largest=self.largest, nan=self.nan).min()
