"""What is remembered of each example: O(1) numbers, however long the run is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor

from fastprune.pruning.course import Course
from fastprune.pruning.statistics import State, Statistic, is_oriented
from fastprune.scores.metrics import is_hard_where_small, is_vector

HISTORY_VERSION = 2
ROWS_AT_ONCE = 1 << 16


class History:
    """Streaming statistics of ``n`` examples: one `Statistic` for each metric that a method reads.

    The tensors are on the device of the first scores.  So on CUDA nothing is copied to the host, and nothing waits.

    Memory: 8 bytes an example, and those of the statistics.

    Args:
        n: number of examples.
        statistics: by metric.
        follows: the metrics of ``statistics`` whose `Course` is kept.

    Attributes:
        courses: by metric.
        visits: how many values each example has had.
        scored_epoch: the user epoch of its last value, -1 before the first.

    Example:
        >>> from fastprune.pruning import Latest
        >>> history = History(3, {"loss": Latest()})
        >>> history.update(torch.tensor([0, 2]), {"loss": torch.tensor([0.1, 2.5])}, epoch=0)
        >>> history.value("loss")  # example 1 has no score yet
        tensor([0.1000,    inf, 2.5000])
    """

    def __init__(self, n: int, statistics: Mapping[str, Statistic], follows: Sequence[str] = ()) -> None:
        self.n = n
        self.statistics = dict(statistics)
        if unknown := sorted(set(follows) - set(statistics)):
            raise ValueError(f"follows names {unknown[0]!r}, which has no statistic; there are {sorted(statistics)}")
        self.courses = {metric: Course(n) for metric in follows}
        self._negated = frozenset(m for m, s in self.statistics.items() if is_oriented(s) and is_hard_where_small(m))
        with torch.device("cpu"):  # whatever the default device
            self.visits = torch.zeros(n, dtype=torch.int32)
            self.scored_epoch = torch.full((n,), -1, dtype=torch.int32)
            self._state: dict[str, State] = {m: s.new_state(n) for m, s in self.statistics.items()}
        self._values: dict[str, Tensor] = {}
        self._empty = True
        self._placed = False

    @property
    def reads(self) -> tuple[str, ...]:
        """The metrics that every update must supply."""
        return tuple(self.statistics)

    @property
    def empty(self) -> bool:
        """True until the first score arrives."""
        return self._empty

    @property
    def bytes_per_example(self) -> int:
        """Memory of all statistics, in bytes an example."""
        return 8 + sum(statistic.bytes_per_example for statistic in self.statistics.values())

    def check(self, index: Tensor, scores: Mapping[str, Tensor]) -> None:
        """Refuse scores that `update` could not take in.

        Raises:
            KeyError: a metric in ``reads`` is missing.
            TypeError: indices are not integers.
            ValueError: shapes differ.
            IndexError: an index is out of range.  This is checked on the CPU only, where it costs no synchronisation.
        """
        if index.is_floating_point() or index.dtype == torch.bool:
            raise TypeError(f"index must be integer positions in the data set, got {index.dtype}; pass them uncast")
        missing = [metric for metric in self.reads if metric not in scores]
        if missing:
            raise KeyError(f"this method reads {list(self.reads)}, but the scores hold {sorted(scores)}; add {missing}")
        for metric in self.reads:
            shape = scores[metric].shape
            wanted = (len(index), shape[-1]) if is_vector(metric) and len(shape) == 2 else index.shape
            if shape != wanted:
                raise ValueError(
                    f"scores[{metric!r}] has shape {tuple(shape)}, index has {tuple(index.shape)}; "
                    "pass one score per example (token scores: reduce='norm')"
                )
        if index.device.type == "cpu" and index.numel():
            least, most = (int(end) for end in index.aminmax())
            if not 0 <= least <= most < self.n:
                raise IndexError(f"index must be in [0, {self.n}), got {least} … {most}")

    def update(self, index: Tensor, scores: Mapping[str, Tensor], epoch: int) -> None:
        """Take in one score per metric for each example of ``index``.

        Args:
            index: (B,) integer positions in the data set, each in [0, n) and at most once.
            scores: for each metric in ``reads`` a (B,) tensor, or (B, C) for "probabilities".  Further metrics are
                ignored.
            epoch: the user epoch (0-based) the scores belong to.

        Raises:
            KeyError, TypeError, ValueError, IndexError: see `check`.  The history is then unchanged.
        """
        self.check(index, scores)
        if not self.reads or not len(index):
            return
        if not self._placed:
            self._to(scores[self.reads[0]].device)
            self._placed = True
        self._values.clear()
        index = to_device(index, self.visits.device).long()
        visits = self.visits[index]
        for metric, statistic in self.statistics.items():
            values = to_device(scores[metric].detach(), self.visits.device).float()
            values = -values if metric in self._negated else values
            statistic.update(self._state[metric], index, values, visits)
            if metric in self.courses:
                self.courses[metric].update(values)
        self.visits[index] = visits + 1
        self.scored_epoch.index_fill_(0, index, epoch)  # `[index] = epoch` would wait for the device
        self._empty = False

    def value(self, metric: str) -> Tensor:
        """The statistic of ``metric`` of every example, fp32 (n,).  It is larger the more is left to learn.

        If small values of the metric are hard, as with confidence, it is the statistic of the negated values.  An
        example without a value has +inf.  It may be the hardest of all, so it ranks first.

        Cost: it is computed once after an update.  Each further call copies 4 bytes an example.
        """
        if metric not in self._values:
            self._values[metric] = self._compute(metric)
        return self._values[metric].clone()

    def refuse_nan(self) -> None:
        """Refuse to rank by NaN.  Waits for the device.

        Raises:
            ValueError: an example's statistic is NaN.  The message names the metric and the first such example.
        """
        for metric in self.reads:
            broken = self.value(metric).isnan().nonzero().flatten()
            if len(broken):
                raise ValueError(
                    f"{metric!r} of example {int(broken[0])} is NaN, and of {len(broken) - 1} others: its logits were "
                    "not finite, its label out of range, or an average ran over infinite values; lower the learning "
                    "rate, or leave these examples out"
                )

    def state(self, metric: str) -> State:
        """The tensors behind `value`, for methods that rank by more than one number.  They must not be written to."""
        return self._state[metric]

    def part(self, index: Tensor) -> History:
        """The history of the examples at ``index`` (int64) as it is now, a copy.  They get the numbers from 0 on."""
        part = History(len(index), self.statistics)
        index = to_device(index, self.visits.device)
        part._empty, part._placed = self._empty, True
        part.courses = self.courses  # that of the whole run
        part.visits, part.scored_epoch = self.visits[index], self.scored_epoch[index]
        part._state = {m: {k: t[index] for k, t in s.items()} for m, s in self._state.items()}
        return part

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs, as plain tensors on the CPU.  They are copies."""
        return {
            **self._identity,
            "empty": self._empty,
            "visits": self.visits.cpu().clone(),
            "scored_epoch": self.scored_epoch.cpu().clone(),
            "state": {m: {k: t.cpu().clone() for k, t in s.items()} for m, s in self._state.items()},
            **({"courses": {m: course.state_dict() for m, course in self.courses.items()}} if self.courses else {}),
        }

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Refuse the state of something else.

        Raises:
            ValueError: the state is of another version, size, metric or statistic.
        """
        for key, value in self._identity.items():
            if state.get(key) != value:
                raise ValueError(f"the saved history has {key} = {state.get(key)!r}, this run has {value!r}")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict()``.

        Raises:
            ValueError: see `check_state`.  The history is then unchanged.
        """
        self.check_state(state)
        device = self.visits.device
        self._empty, self._placed = bool(state["empty"]), False
        self._values.clear()
        self.visits = state["visits"].to(device, copy=True)
        self.scored_epoch = state["scored_epoch"].to(device, copy=True)
        self._state = {m: {k: t.to(device, copy=True) for k, t in s.items()} for m, s in state["state"].items()}
        for metric, course in self.courses.items():
            course.load_state_dict(state["courses"][metric], device)

    @property
    def _identity(self) -> dict[str, Any]:
        statistics = {
            metric: f"{'negated: ' if metric in self._negated else ''}{settings_of(statistic)}"
            for metric, statistic in self.statistics.items()
        }
        follows = {"follows": list(self.courses)} if self.courses else {}  # older states have none
        return {"version": HISTORY_VERSION, "n": self.n, "statistics": statistics, **follows}

    def _compute(self, metric: str) -> Tensor:
        # Block by block, so that what a statistic computes on the way stays in the processor's cache.
        statistic, state = self.statistics[metric], self._state[metric]
        value = torch.empty(self.n, dtype=torch.float32, device=self.visits.device)
        for start in range(0, self.n, ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            visits = self.visits[rows]
            found = statistic.value({name: tensor[rows] for name, tensor in state.items()}, visits)
            value[rows] = torch.where(visits > 0, found, torch.inf)
        return value

    def _to(self, device: torch.device) -> None:
        self.visits = to_device(self.visits, device)
        self.scored_epoch = to_device(self.scored_epoch, device)
        self._state = {m: {k: to_device(t, device) for k, t in s.items()} for m, s in self._state.items()}


def settings_of(thing: Any) -> str:
    """A text for comparing two methods or statistics.  It is equal if the settings are, which are those of a dataclass.

    The repr of other objects would hold their address, which differs between processes.
    """
    return repr(thing) if is_dataclass(thing) else type(thing).__qualname__


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on ``device``, without waiting for a GPU.

    On the host it is returned only once it has arrived.  Otherwise it could be read too early.
    """
    return tensor.to(device, non_blocking=device.type != "cpu")
