"""The pruning state inside a Trainer's checkpoint: one file, written whole or not at all."""

from __future__ import annotations

import os
from typing import Any

import torch

from fastprune.errors import UsageError

STATE_FILE = "fastprune.pt"
VERSION = 1


def read_state(checkpoint: str) -> dict[str, Any]:
    """The state in the checkpoint folder; `UsageError` if there is none or it is of another version."""
    path = os.path.join(checkpoint, STATE_FILE)
    if not os.path.isfile(path):
        raise UsageError(
            f"{checkpoint} holds no {STATE_FILE}: the checkpoint was not made with fastprune attached; resume "
            "it with an unattached Trainer, or start afresh"
        )
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["version"] != VERSION:
        raise UsageError(f"{path} is of version {state['version']}, this fastprune reads version {VERSION}")
    return state


def write_state(state: dict[str, Any], folder: str) -> None:
    """Put ``state`` into the checkpoint ``folder``."""
    path = os.path.join(folder, STATE_FILE)
    torch.save({"version": VERSION, **state}, path + ".tmp")
    os.replace(path + ".tmp", path)
