"""The train DataLoader of a Lightning run, in the pruner's order and dealt out to processes."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, RandomSampler
from torch.utils.data.distributed import DistributedSampler

from fastprune.pruning import RankSampler
from fastprune.pruning.sampler import Arrange


class RankOrder(DistributedSampler[int]):
    """One process's share of the pruner's order.

    A `DistributedSampler`, because Lightning deals any other sampler out by itself, in an order of its own.  Its
    epoch is the pruner's, which is moved before Lightning asks for the length of the next one.
    """

    def __init__(self, share: RankSampler, longest: int | None) -> None:
        self.share = share
        self.longest = longest

    def __len__(self) -> int:
        """Of the current epoch; while Lightning estimates the number of steps, of the longest if that is set.

        Its estimate is the smaller of max_steps, which is right, and the batches of one epoch times max_epochs.
        """
        return len(self.share) if self.longest is None else self.longest

    def __iter__(self) -> Iterator[int]:
        return iter(self.share)

    def set_epoch(self, epoch: int) -> None:
        """Nothing: the callback moves the pruner."""


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
