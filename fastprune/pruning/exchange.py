"""Exchanges scores between processes, so that every process holds the same history.

Each rank records what it observed, in order, one entry per training step.  An exchange gathers step, index and scores
of all ranks.  Indices and scores travel in tensors of their own, because an index does not survive a cast to bfloat16.
The steps are then replayed as one process would have made them, with all ranks' batches joined to one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from fastprune.platform.collectives import collective_device, gather_rows, world
from fastprune.pruning.sampler import fill_up
from fastprune.scores.metrics import is_vector

Batch = tuple[Tensor, dict[str, Tensor]]


class Steps:
    """What this process has observed in the current piece and not yet sent to the others."""

    def __init__(self, n: int) -> None:
        self.unsent: list[Batch] = []
        self._n = n
        self._expected: Tensor | None = None

    def record(self, index: Tensor, scores: Mapping[str, Tensor]) -> None:
        """Keep a step's scores."""
        self.unsent.append((index.detach().clone(), {m: values.detach().clone() for m, values in scores.items()}))

    def replay(self, order: Callable[[], Tensor], metrics: Sequence[str], position: int) -> Iterator[Batch]:
        """The batch of every step of all ranks since the last exchange.  A collective call.

        An order is filled up with repeats so that all ranks read the same number.  So an index counts only as often as
        the rest of ``order()`` holds it.  Its other scores are left out.

        Args:
            order: returns the indices of the piece.
            metrics: whose scores are exchanged.
            position: how far the piece has been replayed already.
        """
        own, self.unsent = self.unsent, []
        for index, scores in gather_batches(own, metrics):
            if self._expected is None:
                self._expected = torch.bincount(order()[position:], minlength=self._n)
            wanted = self._expected[index] > 0
            index = index[wanted]
            self._expected[index] -= 1
            yield index, {m: values[wanted.to(values.device)] for m, values in scores.items()}


def gather_batches(own: Sequence[Batch], metrics: Sequence[str]) -> Iterator[Batch]:
    """The batches of all ranks, step by step.  Each step's batches are joined in the order of the ranks.

    A collective call.  An index that comes twice in one step counts once, because a repeat only fills up the order.

    Args:
        own: (index, scores by metric) of each step of this rank.  Ranks may differ in the number of steps.
        metrics: whose scores are gathered.

    Cost: two all-gathers, and memory for all ranks' observations.
    """
    columns = [_as_columns(scores, metrics) for _, scores in own]
    device = collective_device(columns[0].device if columns else torch.device("cpu"))
    steps = [torch.full_like(index, step) for step, (index, _) in enumerate(own)]
    empty = torch.empty(0, dtype=torch.int64)
    where = torch.stack([torch.cat([empty, *map(_host, steps)]), torch.cat([empty, *(_host(i) for i, _ in own)])], 1)
    widths = gather_rows(torch.tensor([[columns[0].shape[1] if columns else 0]]), device)
    width = int(max(int(w) for w in widths))
    values = torch.cat([torch.empty(0, width, dtype=torch.float32, device=device), *(c.to(device) for c in columns)])
    all_where = torch.cat(gather_rows(where, device)).cpu()
    all_values = torch.cat(gather_rows(values, device))
    order = all_where[:, 0].argsort(stable=True)
    _, counts = all_where[order, 0].unique_consecutive(return_counts=True)
    for rows in order.split(counts.tolist()):
        index = all_where[rows, 1]
        first = _first_occurrences(index)
        yield index[first], _split_columns(all_values[rows[first].to(device)], metrics)


def even_share(index: Tensor) -> Tensor:
    """This rank's part of ``index``.  All parts have the same length, so collectives in a forward pass match.

    Parts are filled up by repeating the first indices.
    """
    rank, world_size = world()
    return fill_up(index, world_size, index)[rank::world_size]


def gather_scores(index: Tensor, scores: Mapping[str, Tensor], metrics: Sequence[str]) -> Batch:
    """All ranks' scores of a scoring pass, each index once, ascending.  A collective call."""
    columns = _as_columns(scores, metrics)
    device = collective_device(columns.device)
    where = torch.cat(gather_rows(_host(index).unsqueeze(1), device))[:, 0].cpu()
    values = torch.cat(gather_rows(columns, device))
    order = where.argsort(stable=True)
    order = order[_first_occurrences(where[order])]
    return where[order], _split_columns(values[order.to(device)], metrics)


def _as_columns(scores: Mapping[str, Tensor], metrics: Sequence[str]) -> Tensor:
    """All metrics side by side, fp32 (B, columns): one column each, or C for a metric with a vector per example."""
    parts = [scores[metric].detach().float() for metric in metrics]
    return torch.cat([part if part.ndim == 2 else part.unsqueeze(1) for part in parts], dim=1)


def _split_columns(columns: Tensor, metrics: Sequence[str]) -> dict[str, Tensor]:
    """The metrics that `_as_columns` put side by side."""
    # At most one metric is a vector.  It has all columns that the others do not need.
    width = columns.shape[1] - len(metrics) + 1
    parts = columns.split([width if is_vector(metric) else 1 for metric in metrics], dim=1)
    return {m: p if is_vector(m) else p[:, 0] for m, p in zip(metrics, parts, strict=True)}


def _first_occurrences(index: Tensor) -> Tensor:
    """The positions, ascending, at which each value of ``index`` comes for the first time."""
    order = index.argsort(stable=True)
    arranged = index[order]
    fresh = torch.ones_like(arranged, dtype=torch.bool)
    fresh[1:] = arranged[1:] != arranged[:-1]
    return order[fresh].sort().values


def _host(index: Tensor) -> Tensor:
    return index.detach().to("cpu", torch.int64)
