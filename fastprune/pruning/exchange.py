"""Scores that arise on several processes, brought together so that every process holds the same history.

Each rank records what it observed, in order, one entry per training step.  An exchange gathers (step, index, scores)
of all ranks, indices and scores in tensors of their own (an index does not survive a cast to bfloat16), and replays
them in the order of one process whose batch is all ranks' batches together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from fastprune.pruning.sampler import fill_up

Batch = tuple[Tensor, dict[str, Tensor]]


class FailedElsewhereError(RuntimeError):
    """Another process has failed and says why."""

    said_elsewhere = True


def world() -> tuple[int, int]:
    """(rank, world_size) of the default process group; (0, 1) where there is none."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


@contextmanager
def together(what: str) -> Iterator[None]:
    """Raise on every rank if the body raises on one of them; a collective call at its end.

    Without it the other ranks would wait for the one that failed, in the next collective call, until a timeout.  With
    one process there is nothing to do.

    Raises:
        FailedElsewhereError: on the ranks whose body was fine; on the others their own exception.
    """
    rank, world_size = world()
    if world_size == 1:
        yield
        return
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    failed = torch.zeros(world_size, dtype=torch.int64, device=_collective_device(torch.device("cpu")))
    failed[rank] = failure is not None
    dist.all_reduce(failed)
    if failure is not None:
        raise failure
    if failed.any():
        on = failed.nonzero().flatten().tolist()
        raise FailedElsewhereError(f"{what} failed on rank {on}; see the error raised there")


class Steps:
    """What this process observed of the current piece and other processes do not know yet.

    Args:
        n: size of the data set.
        position: how much of the piece was trained on before, the same on all ranks.
    """

    def __init__(self, n: int, position: int) -> None:
        self.unsent: list[Batch] = []
        self._n = n
        self._replayed = position
        self._expected: Tensor | None = None

    def record(self, index: Tensor, scores: Mapping[str, Tensor]) -> None:
        """Keep a step's scores."""
        self.unsent.append((index.detach().clone(), {m: values.detach().clone() for m, values in scores.items()}))

    def replay(self, order: Callable[[], Tensor], metrics: Sequence[str]) -> Iterator[tuple[int, Batch]]:
        """(position in the piece, batch) of every step of all ranks since the last exchange; a collective call.

        An order is filled up with repeats so that all ranks read equally many: each index comes as often as it does in
        the rest of ``order()``, the indices of the piece, and further scores of it are left out.
        """
        own, self.unsent = self.unsent, []
        for index, scores in gather_batches(own, metrics):
            if self._expected is None:
                self._expected = torch.bincount(order()[self._replayed :], minlength=self._n)
            wanted = self._expected[index] > 0
            index = index[wanted]
            self._expected[index] -= 1
            yield self._replayed, (index, {m: values[wanted.to(values.device)] for m, values in scores.items()})
            self._replayed += len(index)


def gather_batches(own: Sequence[Batch], metrics: Sequence[str]) -> Iterator[Batch]:
    """The batches of all ranks, step by step, each step's batches joined in the order of the ranks.

    A collective call.  ``own`` holds (index, scores by metric) of each step of this rank; ranks may differ in their
    number.  An index that comes twice in one step is taken once: an order is filled up with repeats to make it even.

    Cost: two all-gathers; memory of all ranks' observations.
    """
    columns = [_columns(scores, metrics) for _, scores in own]
    device = _collective_device(columns[0].device if columns else torch.device("cpu"))
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
        yield index[first], _by_metric(all_values[rows[first].to(device)], metrics)


def gather_rows(rows: Tensor, device: torch.device) -> list[Tensor]:
    """Every rank's (R, M) rows, R differing between ranks; a collective call on ``device``."""
    rows = rows.to(device)
    _, world_size = world()
    own = torch.tensor([len(rows)], device=device)
    sizes = [torch.empty_like(own) for _ in range(world_size)]
    dist.all_gather(sizes, own)
    counts = [int(size) for size in sizes]
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(world_size)]
    dist.all_gather(parts, padded)
    return [part[:count] for part, count in zip(parts, counts, strict=True)]


def even_share(index: Tensor) -> Tensor:
    """This rank's part of ``index``; equally many on every rank, so that collectives in a forward pass meet.

    Parts are filled up by repeating the first indices.
    """
    rank, world_size = world()
    return fill_up(index, world_size, index)[rank::world_size]


def broadcast(tensor: Tensor) -> Tensor:
    """Rank 0's values of a tensor that has the same shape and dtype on all ranks."""
    device = _collective_device(tensor.device)
    sent = tensor.to(device, copy=True)
    dist.broadcast(sent, src=0)
    return sent.to(tensor.device)


def gather_scores(index: Tensor, scores: Mapping[str, Tensor], metrics: Sequence[str]) -> Batch:
    """All ranks' scores of a scoring pass, each index once, ascending."""
    columns = _columns(scores, metrics)
    device = _collective_device(columns.device)
    where = torch.cat(gather_rows(_host(index).unsqueeze(1), device))[:, 0].cpu()
    values = torch.cat(gather_rows(columns, device))
    order = where.argsort(stable=True)
    order = order[_first_occurrences(where[order])]
    return where[order], _by_metric(values[order.to(device)], metrics)


def _columns(scores: Mapping[str, Tensor], metrics: Sequence[str]) -> Tensor:
    parts = [scores[metric].detach().float() for metric in metrics]
    return torch.cat([part if part.ndim == 2 else part.unsqueeze(1) for part in parts], dim=1)


def _by_metric(columns: Tensor, metrics: Sequence[str]) -> dict[str, Tensor]:
    # Only "probabilities" has more than one column, as many as the others leave.
    width = columns.shape[1] - len(metrics) + 1
    widths = [width if metric == "probabilities" else 1 for metric in metrics]
    parts = columns.split(widths, dim=1)
    return {m: p if m == "probabilities" else p[:, 0] for m, p in zip(metrics, parts, strict=True)}


def _first_occurrences(index: Tensor) -> Tensor:
    """Positions, ascending, at which each value of ``index`` comes for the first time."""
    order = index.argsort(stable=True)
    arranged = index[order]
    fresh = torch.ones_like(arranged, dtype=torch.bool)
    fresh[1:] = arranged[1:] != arranged[:-1]
    return order[fresh].sort().values


def _host(index: Tensor) -> Tensor:
    return index.detach().to("cpu", torch.int64)


def _collective_device(device: torch.device) -> torch.device:
    """Where the default group works: one kind of device on every rank, also on one that has nothing to send."""
    kinds = sorted(pair.partition(":")[0] for pair in dist.get_backend_config().split(","))
    if "cpu" in kinds:
        return torch.device("cpu")
    return device if device.type in kinds else torch.device(kinds[0])
