"""What is remembered of each example: O(1) numbers, however long the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fastprune.pruning.smoothing import Latest, Smoothing

VERSION = 1


class History:
    """Streaming statistics of ``n`` examples for the metrics in ``reads``.

    Each metric is reduced by ``smoothing``; ``visits`` counts the scores of an example and ``scored_epoch``
    holds the user epoch of its last one (−1: never).  Memory: 8 bytes an example plus the smoothing's bytes
    for each metric.  The tensors live where the first scores came from, so that on CUDA nothing is copied to
    the host and nothing synchronises.
    """

    def __init__(self, n: int, reads: tuple[str, ...], smoothing: Smoothing | None = None) -> None:
        self.n = n
        self.reads = reads
        self.smoothing: Smoothing = smoothing or Latest()
        self.visits = torch.zeros(n, dtype=torch.int32)
        self.scored_epoch = torch.full((n,), -1, dtype=torch.int32)
        self._state = {metric: self.smoothing.new_state(n) for metric in reads}
        self._empty = True
        self._placed = False

    @property
    def empty(self) -> bool:
        """True until the first score arrives."""
        return self._empty

    @property
    def bytes_per_example(self) -> int:
        """Memory of all statistics, in bytes an example."""
        return 8 + len(self.reads) * self.smoothing.bytes_per_example

    def update(self, index: Tensor, scores: Mapping[str, Tensor], epoch: int) -> None:
        """Take in one score per metric for each example of ``index``.

        Args:
            index: (B,) integer positions in the data set, each in [0, n) and at most once.
            scores: for each metric in ``reads`` a (B,) tensor; further metrics are ignored.
            epoch: the user epoch (0-based) the scores belong to.

        Raises:
            KeyError: a metric in ``reads`` is missing.
            ValueError: shapes differ.
            IndexError: an index is out of range (checked on CPU only, where it costs no synchronisation).
        """
        missing = [metric for metric in self.reads if metric not in scores]
        if missing:
            raise KeyError(f"this method reads {list(self.reads)}, but the scores hold {sorted(scores)}; add {missing}")
        if not self.reads:
            return
        for metric in self.reads:
            if scores[metric].shape != index.shape:
                raise ValueError(
                    f"scores[{metric!r}] has shape {tuple(scores[metric].shape)}, index has {tuple(index.shape)}; "
                    "pass one score per example (token scores: reduce='norm')"
                )
        if index.device.type == "cpu" and index.numel():
            least, most = int(index.min()), int(index.max())
            if not 0 <= least <= most < self.n:
                raise IndexError(f"index must be in [0, {self.n}), got {least} … {most}")
        # Nothing is changed before everything has been checked.
        if not self._placed:
            self._to(scores[self.reads[0]].device)
            self._placed = True
        self._empty = False
        index = index.to(self.visits.device, torch.int64, non_blocking=True)
        visits = self.visits[index]
        for metric in self.reads:
            values = scores[metric].detach().to(self.visits.device, torch.float32, non_blocking=True)
            self.smoothing.update(self._state[metric], index, values, visits)
        self.visits[index] = visits + 1
        self.scored_epoch[index] = epoch

    def value(self, metric: str) -> Tensor:
        """The smoothed ``metric`` of every example, fp32 (n,); +inf where there is none yet.

        An example nobody has scored may be the hardest of all, so it ranks first.
        """
        value = self.smoothing.value(self._state[metric], self.visits)
        return torch.where(self.visits > 0, value, torch.inf)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on, as plain tensors on the CPU (copies)."""
        return {
            "version": VERSION,
            "n": self.n,
            "reads": list(self.reads),
            "smoothing": repr(self.smoothing),
            "empty": self._empty,
            "visits": self.visits.cpu().clone(),
            "scored_epoch": self.scored_epoch.cpu().clone(),
            "state": {m: {k: t.cpu().clone() for k, t in s.items()} for m, s in self._state.items()},
        }

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Refuse the state of something else.

        Raises:
            ValueError: the state is of another version, size, metric or smoothing.
        """
        mine = {"version": VERSION, "n": self.n, "reads": list(self.reads), "smoothing": repr(self.smoothing)}
        for key, value in mine.items():
            if state[key] != value:
                raise ValueError(f"the saved history has {key} = {state[key]!r}, this run has {value!r}")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict()``; raises as `check_state`, before anything is changed."""
        self.check_state(state)
        device = self.visits.device
        self._empty, self._placed = bool(state["empty"]), False
        self.visits = state["visits"].to(device, copy=True)
        self.scored_epoch = state["scored_epoch"].to(device, copy=True)
        self._state = {m: {k: t.to(device, copy=True) for k, t in s.items()} for m, s in state["state"].items()}

    def _to(self, device: torch.device) -> None:
        self.visits = self.visits.to(device)
        self.scored_epoch = self.scored_epoch.to(device)
        self._state = {m: {k: t.to(device) for k, t in s.items()} for m, s in self._state.items()}
