"""The train DataLoader of a Lightning run, with the pruner's order divided among the processes."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader, RandomSampler
from torch.utils.data.distributed import DistributedSampler

from fastprune.integrations.lightning.checks import check_loader
from fastprune.pruning import RankSampler
from fastprune.pruning.sampler import Arrange


class RankOrder(DistributedSampler[int]):
    """One process's share of the pruner's order.

    It is a `DistributedSampler`, because Lightning would divide any other sampler itself, in another order.  Its epoch
    is the pruner's, which changes before Lightning asks for the length of the next one.
    """

    def __init__(self, share: RankSampler, longest: int | None) -> None:
        self.share = share
        self.longest = longest

    def __len__(self) -> int:
        """The length of the current epoch, or that of the longest epoch while Lightning estimates the number of steps.

        Lightning takes the smaller of two numbers.  The first is max_steps, which is right.  The second is the batches
        of one epoch times max_epochs, which must not be smaller.
        """
        return len(self.share) if self.longest is None else self.longest

    def __iter__(self) -> Iterator[int]:
        return iter(self.share)

    def set_epoch(self, epoch: int) -> None:
        """Do nothing, because the callback moves the pruner."""


class TrainLoader:
    """The train loader of one fit.  Lightning requests it from its loop's data source, once, or again when told to.

    Attributes:
        loader: the user's loader in the pruner's order.  None before Lightning has requested it.
    """

    def __init__(self) -> None:
        self.loader: DataLoader[Any] | None = None
        self._order: RankOrder | None = None
        self._estimating = True

    def take_over(self, trainer: Any, begin: Callable[[DataLoader[Any]], tuple[RankSampler, int]]) -> None:
        """Stand in for the data source.

        Args:
            trainer: the trainer that has the data source.
            begin: called once, with the user's loader.  Returns this process's share of the order, and the length of
                its longest epoch.
        """
        source = trainer.fit_loop._data_source
        source.dataloader = functools.partial(self._hand_out, trainer, source.dataloader, begin)

    def release(self, trainer: Any) -> None:
        """Leave the data source as it was."""
        vars(trainer.fit_loop._data_source).pop("dataloader", None)
        self.loader = None

    def end_estimate(self, trainer: Any) -> None:
        """From now on report the true length of each epoch."""
        self._estimating = False
        if self._order is not None:
            estimated, self._order.longest = self._order.longest, None
            if estimated != len(self._order):
                self.set_up_again(trainer)

    def set_up_again(self, trainer: Any) -> None:
        """Make Lightning request the loader again before the next epoch."""
        trainer.reload_dataloaders_every_n_epochs = 1
        trainer.fit_loop._last_train_dl_reload_epoch = float("-inf")

    def begin_at_first_batch(self, trainer: Any) -> None:
        """Make Lightning begin the next epoch at its first batch, although it is longer and workers have read ahead."""
        assert self.loader is not None
        self.set_up_again(trainer)
        # Lightning leaves a restored epoch after as many batches as the next epoch has.
        done = trainer.fit_loop.epoch_loop.batch_progress.current
        done.completed = max(done.completed, len(self.loader))

    def _hand_out(self, trainer: Any, original: Any, begin: Callable[..., Any]) -> DataLoader[Any]:
        if trainer.reload_dataloaders_every_n_epochs:
            trainer.reload_dataloaders_every_n_epochs = 0  # the loader had to be set up once more, and this was it
        if self.loader is None:
            loader = check_loader(original())
            share, longest = begin(loader)
            self._order = RankOrder(share, longest if self._estimating else None)
            self.loader = in_order(loader, self._order, trainer)
        return self.loader


def batches_of_epoch(examples: int, loader: DataLoader[Any], world_size: int, limit: int | float) -> int:
    """How many batches each process gets in an epoch.

    Args:
        examples: how many examples the epoch has.
        loader: the train loader.
        world_size: number of processes.
        limit: ``limit_train_batches``.
    """
    share, size = -(-examples // world_size), loader.batch_size or 1
    batches = share // size if loader.drop_last else -(-share // size)
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def in_order(loader: DataLoader[Any], sampler: RankOrder, trainer: Any) -> DataLoader[Any]:
    """The same loader with another sampler, made as Lightning makes it.

    Lightning has two package names, ``lightning.pytorch`` and ``pytorch_lightning``.  The trainer's package is used.
    """
    package = type(trainer.fit_loop).__module__.partition(".loops")[0]
    return importlib.import_module(f"{package}.utilities.data")._update_dataloader(loader, sampler)


def loader_order(loader: DataLoader[Any]) -> Arrange | None:
    """How the order of an epoch is arranged.  None leaves it shuffled.  Otherwise it is that of the data set."""
    sampler: Any = loader.sampler
    shuffled = sampler.shuffle if isinstance(sampler, DistributedSampler) else isinstance(sampler, RandomSampler)
    return None if shuffled else lambda order, generator: order.sort().values
