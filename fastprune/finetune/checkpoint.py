"""A comparison that was killed goes on: results of finished runs and the state of the one under way.

``checkpoint.pt`` in the run folder is written to a temporary name and renamed at every epoch's end, so it is
always whole; it goes away when the last run has ended.
"""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from fastprune.atomic import write_atomic
from fastprune.errors import UsageError

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Replace the folder's checkpoint by ``state``."""
    write_atomic(folder / CHECKPOINT, lambda temporary: torch.save(state, temporary))


def load_checkpoint(folder: Path, options: dict[str, Any], fingerprint: str) -> dict[str, Any]:
    """The state saved in ``folder``, if it belongs to these options and this data.

    Raises:
        UsageError: there is none, or it was made with other data or other options.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        raise UsageError(
            f"--resume: {folder} holds no checkpoint; the run has ended or never reached its first epoch's end"
        )
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except (OSError, RuntimeError, UnpicklingError) as error:
        raise UsageError(f"--resume: {path} is not a checkpoint of fastprune; remove it and start again") from error
    if state["fingerprint"] != fingerprint:
        raise UsageError(
            f"--resume: the checkpoint in {folder} belongs to another data set (fingerprint "
            f"{state['fingerprint'][:12]}…, --data has {fingerprint[:12]}…); pass the data it was made with"
        )
    for name, value in options.items():
        if state["options"].get(name) != value:
            raise UsageError(
                f"--resume: the checkpoint in {folder} was made with {name} = {state['options'].get(name)!r}, "
                f"now it is {value!r}; repeat the first command and add --resume"
            )
    return state


def remove_checkpoint(folder: Path) -> None:
    """The comparison has ended."""
    (folder / CHECKPOINT).unlink(missing_ok=True)
