"""The random states of a Lightning run's processes: saved in checkpoints, and set once on resume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader

from fastprune.integrations.random_state import draw_seeds, random_states, seeds_of, set_random_state
from fastprune.platform.collectives import world
from fastprune.pruning import Progress


class RunRandomness:
    """What a checkpoint of Lightning's lacks: the random state of each process."""

    def __init__(self) -> None:
        self._device = torch.device("cpu")
        self._seeds_due = 0
        self._fetched = False
        self._saved: Mapping[str, Any] | None = None

    def begin(self, device: torch.device) -> None:
        """Begin a run on this device."""
        self._device = device

    def note_batch(self, trainer: Any) -> None:
        """Note that a batch has been trained on.  Loaders of a validation that follows will draw their seeds."""
        self._seeds_due = seeds_of(_loaders_due(trainer))

    def note_validation(self) -> None:
        """Note that validation has begun to read its loaders."""
        self._seeds_due = 0

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs.  A collective call."""
        return {"random": random_states(self._device), "seeds_due": self._seeds_due}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Keep a ``state_dict()`` until `restore` is called.  ``state`` also holds the pruner's state."""
        self._saved = state

    def restore(self, progress: Progress, loader: DataLoader[Any]) -> None:
        """Set the random state before the first batch of a resumed run, after Lightning has made its own draws.

        In the run that saved the state, loaders drew seeds afterwards, and these draws are made here again.  A
        validation that was due and is not repeated drew one seed for each of its loaders.  The train loader drew one
        if an epoch began, and a second one if it was set up again for another length.
        """
        state = self._saved
        if self._fetched or state is None:
            return
        rank, world_size = world()
        if len(state["random"]) != world_size:
            return
        pieces, epoch, saved = progress.pieces, progress.piece_number, state["pruner"]["progress"]
        begun = 0
        if epoch > 0 and not loader.persistent_workers and (saved["piece_number"] < epoch or saved["position"] == 0):
            begun = 1 + (len(pieces[epoch]) != len(pieces[epoch - 1]))
        set_random_state(state["random"][rank], self._device)
        draw_seeds(state["seeds_due"] + begun * seeds_of([loader]))

    def fetch(self) -> None:
        """Note that a batch is read, so the run has started."""
        self._fetched = True


def _loaders_due(trainer: Any) -> list[Any]:
    """The loaders of the validation that is due after the current batch.  Empty if none is due."""
    loop = trainer.fit_loop.epoch_loop
    if not loop._should_check_val_fx(trainer.fit_loop._data_fetcher) or loop.val_loop._combined_loader is None:
        return []
    return loop.val_loop._combined_loader.flattened
