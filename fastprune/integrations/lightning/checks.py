"""Which Lightning runs can be pruned.  All others are refused before they start, with one sentence."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from fastprune.errors import class_of
from fastprune.integrations.datasets import check_readable_by_index


def check_trainer(trainer: Any) -> None:
    """Refuse settings that pruning does not support.  The message names the argument and the fix."""
    if trainer.overfit_batches:
        raise ValueError(
            f"overfit_batches is {trainer.overfit_batches}: it repeats the first batches, and pruning chooses the "
            "examples; use one or the other"
        )
    if trainer.reload_dataloaders_every_n_epochs:
        raise ValueError(
            f"reload_dataloaders_every_n_epochs is {trainer.reload_dataloaders_every_n_epochs}: scores belong to "
            "places in one data set, which a reloaded one may not share; leave it 0"
        )
    if any(type(callback).__name__ == "BatchSizeFinder" for callback in trainer.callbacks):
        raise ValueError("BatchSizeFinder replaces the train loader that pruning plans with; find the size in a run "
                         "of its own")  # fmt: skip
    if trainer.max_epochs == -1 and not trainer.lightning_module.automatic_optimization:
        raise ValueError(
            "with manual optimization only the module knows when max_steps is reached: set max_epochs, for which "
            "pruning can plan"
        )


def check_batches(trainer: Any, loader: DataLoader[Any], batches: list[int]) -> None:
    """Refuse epochs that are too short.  A process would have nothing to train on, or would reach no validation.

    Lightning would end such a run early, with or without an error.
    """
    least = min(batches)
    if least == 0:
        raise ValueError(
            f"epochs of pruned data leave no batch of {loader.batch_size} examples for each process: set "
            "drop_last=False or limit_train_batches=1.0, lower batch_size, or raise keep_fraction"
        )
    interval = trainer.val_check_interval
    if isinstance(interval, int) and trainer.check_val_every_n_epoch is not None and interval > least:
        raise ValueError(
            f"val_check_interval is {interval} batches, an epoch of pruned data has {least}: lower it, make it a "
            "fraction, or set check_val_every_n_epoch=None"
        )


def check_loader(loader: Any) -> DataLoader[Any]:
    """Return the loader, if its examples can be chosen.

    Raises:
        ValueError: its examples cannot be chosen.  The message says why, and what to pass instead.
    """
    if not isinstance(loader, DataLoader):
        raise ValueError(
            f"the train dataloader is a {class_of(loader)}: pruning chooses the examples of one torch DataLoader; "
            "return a single DataLoader"
        )
    check_readable_by_index(loader.dataset, "the train data set")
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
