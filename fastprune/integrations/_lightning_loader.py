"""The train DataLoader of a Lightning run: what it must be, and the same loader in the pruner's order."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from fastprune.pruning import PruningSampler, RankSampler

Arrange = Callable[[Tensor, torch.Generator], Tensor]


class RankOrder(DistributedSampler[int]):
    """One process's share of the pruner's order.

    A `DistributedSampler`, because Lightning deals any other sampler out by itself, in an order of its own.  Its
    epoch is the pruner's, which is moved before Lightning asks for the length of the next one.
    """

    def __init__(self, share: RankSampler) -> None:
        self.share = share

    def __len__(self) -> int:
        return len(self.share)

    def __iter__(self) -> Iterator[int]:
        return iter(self.share)

    def set_epoch(self, epoch: int) -> None:
        """Nothing: the callback moves the pruner."""


def rank_indices(sampler: PruningSampler, rank: int, world_size: int) -> Tensor:
    """What `RankOrder` yields in the current piece when it starts at its beginning, int64."""
    order = sampler.piece_indices()
    return torch.cat([order, order[: -len(order) % world_size]])[rank::world_size]


def batches_of(examples: int, loader: DataLoader[Any], world_size: int, limit: int | float) -> int:
    """Batches that each process gets of an epoch of so many examples; ``limit`` is ``limit_train_batches``."""
    share, size = -(-examples // world_size), loader.batch_size or 1
    batches = share // size if loader.drop_last else -(-share // size)
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def in_order(loader: DataLoader[Any], sampler: RankOrder, trainer: Any) -> DataLoader[Any]:
    """The same loader with another sampler, made as Lightning makes it.

    Lightning comes under two names, ``lightning.pytorch`` and ``pytorch_lightning``; the trainer's is taken.
    """
    package = type(trainer.fit_loop).__module__.partition(".loops")[0]
    return importlib.import_module(f"{package}.utilities.data")._update_dataloader(loader, sampler)


def arrange_as(loader: DataLoader[Any]) -> Arrange | None:
    """The order within an epoch: None for shuffled, else that of the data set."""
    sampler: Any = loader.sampler
    shuffled = sampler.shuffle if isinstance(sampler, DistributedSampler) else isinstance(sampler, RandomSampler)
    return None if shuffled else lambda order, generator: order.sort().values


def check_loader(loader: Any) -> DataLoader[Any]:
    """The loader, if its examples can be chosen.

    Raises:
        ValueError: they cannot; the message says why and what to pass.
    """
    if not isinstance(loader, DataLoader):
        raise ValueError(
            f"the train dataloader is a {type(loader).__name__}: pruning chooses the examples of one torch DataLoader; "
            "return a single DataLoader"
        )
    dataset: Any = loader.dataset
    by_index = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    if isinstance(dataset, IterableDataset) or not by_index:
        raise ValueError(
            f"the train data set is a stream ({type(dataset).__name__}): its examples cannot be read by index; pass "
            "one with __len__ and __getitem__"
        )
    if hasattr(loader, "state_dict"):
        raise ValueError(
            f"the train dataloader ({type(loader).__name__}) resumes by itself, and so does pruning: pass a torch "
            "DataLoader"
        )
    if loader.batch_size is None:
        raise ValueError(
            "the train dataloader has a batch_sampler of its own or batch_size=None, but pruning decides the order: "
            "pass batch_size and shuffle=True instead"
        )
    if not _reads_everything(loader):
        raise ValueError(
            f"the train dataloader has a sampler of its own ({type(loader.sampler).__name__}), but pruning decides the "
            "order: pass shuffle=True instead"
        )
    if not getattr(loader, "in_order", True):
        raise ValueError(
            "the train dataloader has in_order=False, so that no batch can be told from another: leave it True"
        )
    return loader


def _reads_everything(loader: DataLoader[Any]) -> bool:
    sampler: Any = loader.sampler
    if type(sampler) is RandomSampler:
        return not sampler.replacement and sampler.num_samples == len(loader.dataset)  # type: ignore[arg-type]
    return type(sampler) in (SequentialSampler, DistributedSampler)
