"""`TopK`: exact selection from scores that arrive in chunks."""

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
    """Keeps the k largest of all scores pushed so far. Use it when scores arrive in chunks or do not fit in memory.

    `result` equals what `select_topk` returns for all scores at once. Neither the chunks nor their order change it.
    Ties are decided by id, as `select_topk` decides them by index.

    Args:
        k: How many to keep, at least 0.
        largest: As for `select_topk`.
        nan: As for `select_topk`. With "raise", a chunk that holds a NaN is refused as a whole.
        ties: Which of the equal scores at the threshold are kept. With "index", those with the smaller ids. With
            "random", a part of them, drawn from (seed, round, id).
        seed: As for `select_topk`.
        round: As for `select_topk`.

    Raises:
        ValueError: k is negative, or nan or ties is unknown.
        TypeError: k, seed or round is not an integer.

    Memory: O(k + the largest chunk).

    Cost: O(1) for a score that is not among the k largest so far, and O(log k) for one that is. Each chunk is compared
    with the current threshold. The scores that pass are collected, and the k largest are selected from them when they
    have grown to k.

    Example:
        >>> import torch
        >>> best = TopK(2, ties="random", seed=0)
        >>> for chunk in ([0, 1, 2], [3, 4, 5]):
        ...     best.push(torch.tensor(chunk), torch.tensor([1.0, 0.0, 1.0]))
        >>> ids, scores = best.result()
        >>> at_once = select_topk(torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 1.0]), 2, ties="random", seed=0)
        >>> ids.tolist() == at_once.tolist()
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
        self._threshold: Tensor | None = None  # the key of the k-th largest score so far

    def push(self, ids: Tensor | np.ndarray, scores: Tensor | np.ndarray) -> None:
        """Add examples.

        Args:
            ids: (n,) integers in [0, 2^63), in any order. They name the examples. Push each example once.
            scores: (n,) of a dtype that `select_topk` takes. Every call must use the same dtype and device.

        Raises:
            ValueError: The shapes differ, a score is NaN (nan="raise"), the dtype or device differs from earlier calls,
                or an id is negative. Then nothing of the chunk is taken. An id that was pushed twice raises later, or
                not at all, and leaves the accumulator unusable.
            TypeError: ids are not integers, or scores have a dtype that `select_topk` does not take.
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
        # Copied, because a slice would keep the whole chunk in memory and would change with it.
        self._ids.append(ids.clone())
        self._scores.append(scores.clone())
        self._held += len(ids)
        # The number of pieces is bounded too, because each takes a kilobyte besides its scores.
        if self._held > 2 * self.k + 1024 or len(self._ids) > 256:
            self._compact()

    def merge(self, other: TopK) -> None:
        """Add everything that was pushed to another accumulator. The other one does not change.

        Raises:
            ValueError: The other accumulator has other settings, or is this one.
        """
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
        """The examples that are kept so far.

        Returns:
            (ids, scores), both of shape (min(k, pushed),). ids are int64 and ascending. scores have the dtype in which
            they were pushed. Before the first push both are empty and scores are float32.

        Raises:
            ValueError: An id was pushed twice, and both are kept.
        """
        self._compact()
        if not self._scores:
            return torch.empty(0, dtype=torch.int64, device="cpu"), torch.empty(0, dtype=torch.float32, device="cpu")
        return self._ids[0].clone(), self._scores[0].clone()

    def state_dict(self) -> dict[str, Any]:
        """The settings, and the (k,) ids and scores. `load_state_dict` takes them."""
        ids, scores = self.result()
        return self._settings() | {"pushed": self.pushed, "ids": ids, "scores": scores}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`. Everything pushed here before is forgotten."""
        # States saved before the option `ties` existed do not hold it. Their ties went by index, the default.
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
        """Reduce to the k best, ordered by id so that ties go to the smaller one."""
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
