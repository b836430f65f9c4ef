"""How many epochs and steps a Lightning run has, before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.utils.data import DataLoader

from fastprune.integrations.lightning.checks import check_batches
from fastprune.integrations.lightning.loader import batches_of_epoch
from fastprune.pruning import Driver, Piece
from fastprune.pruning.schedule import epoch_pieces, epochs_until


def plan_epochs(
    trainer: Any, loader: DataLoader[Any], driver: Driver, world_size: int, max_steps: int
) -> tuple[Sequence[Piece], int]:
    """A piece for each of max_epochs epochs, or of as many as max_steps steps take.

    Args:
        trainer: the run's trainer.
        loader: the run's train loader.
        driver: the run's driver.
        world_size: number of processes.
        max_steps: the user's limit, -1 for none.

    Returns:
        The pieces, and the optimizer steps of all of them.

    Raises:
        ValueError: neither max_epochs nor max_steps is set, or an epoch leaves a process nothing to train on.
    """
    accumulation, limit = trainer.accumulate_grad_batches, trainer.limit_train_batches

    def pieces(epochs: int) -> Sequence[Piece]:
        return epoch_pieces(driver.phases(epochs))

    def steps(epochs: int) -> int:
        batches = [batches_of_epoch(len(piece), loader, world_size, limit) for piece in pieces(epochs)]
        check_batches(trainer, loader, batches)
        return sum(-(-b // accumulation) for b in batches)

    epochs = trainer.max_epochs
    if epochs == -1:
        if max_steps == -1:
            raise ValueError("max_epochs is -1 and max_steps is not set: pruning plans a run; set one of them")
        step = (loader.batch_size or 1) * world_size * accumulation
        epochs = epochs_until(driver.schedule, driver.n, max_steps * step, lambda e: steps(e) >= max_steps)
    return pieces(epochs), steps(epochs)
