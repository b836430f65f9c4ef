"""The pruning state inside a Trainer's checkpoint: one file, written whole or not at all, and last.

So it is the mark of a complete checkpoint.  A run that was killed while it wrote one goes on from the one before.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers.trainer import TRAINING_ARGS_NAME

from fastprune.errors import UsageError
from fastprune.files.atomic import sweep, write_atomic
from fastprune.pruning.state_versions import VERSION, check_version, converted

STATE_FILE = "fastprune.pt"

logger = logging.getLogger(__name__)


def read_state(checkpoint: str) -> dict[str, Any]:
    """The state in the checkpoint folder.

    Raises:
        UsageError: there is none, or it is of another version.
    """
    path = os.path.join(checkpoint, STATE_FILE)
    if not os.path.isfile(path):
        raise UsageError(
            f"{checkpoint} holds no {STATE_FILE}: the checkpoint was not made with fastprune attached; resume "
            "it with an unattached Trainer, or start afresh"
        )
    state = torch.load(path, map_location="cpu", weights_only=True)
    try:
        check_version(state["version"], path)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return {**state, "pruner": converted(state["pruner"])}


def save_checkpoint(trainer: Any, trial: Any, state: Callable[[], dict[str, Any]], save: Callable[[], Any]) -> Any:
    """The Trainer's own ``save``, then our ``state``, and only then do older checkpoints go.

    A collective call.  Returns what ``save`` does.
    """
    args, output_dir = trainer.args, trainer._get_output_dir(trial=trial)
    folder = os.path.join(output_dir, f"checkpoint-{trainer.state.global_step}")
    if args.should_save:
        unmark(folder)
    limit, args.save_total_limit = args.save_total_limit, None
    try:
        result = save()
    finally:
        args.save_total_limit = limit
    # Every process writes its random state.  The mark says that all have.
    trainer.accelerator.wait_for_everyone()
    if args.should_save:
        if os.path.isdir(folder):
            keep_arguments(args, folder)
            write_state(state(), folder)
        delete_older(trainer, output_dir)
    return result


def write_state(state: dict[str, Any], folder: str) -> None:
    """Put ``state`` into the checkpoint ``folder``."""
    write_atomic(Path(folder, STATE_FILE), lambda temporary: torch.save({"version": VERSION, **state}, temporary))


def keep_arguments(args: Any, folder: str) -> None:
    """Save the Trainer's arguments as the user gave them.  Those it saved say that no older checkpoint is to go."""
    path = Path(folder, TRAINING_ARGS_NAME)
    if path.is_file():
        torch.save(args, path)


def unmark(folder: str) -> None:
    """Take the mark away: ``folder`` is written to, and is no complete checkpoint until `write_state`."""
    sweep(Path(folder), [STATE_FILE])
    Path(folder, STATE_FILE).unlink(missing_ok=True)


def newest_complete(output_dir: str) -> str:
    """The complete checkpoint of the most steps in a Trainer's output folder.

    Raises:
        UsageError: there is none.
    """
    names = os.listdir(output_dir) if os.path.isdir(output_dir) else []
    steps = sorted((int(m[1]) for name in names if (m := re.fullmatch(r"checkpoint-(\d+)", name))), reverse=True)
    for step in steps:
        folder = os.path.join(output_dir, f"checkpoint-{step}")
        if os.path.isfile(os.path.join(folder, STATE_FILE)):
            return folder
        logger.warning("%s is not complete, so an older checkpoint is resumed", folder)
    raise UsageError(
        f"{output_dir} holds no complete checkpoint of a run with fastprune attached; start with trainer.train()"
    )


def delete_older(trainer: Any, output_dir: str) -> None:
    """Do what the Trainer does for ``save_total_limit`` at the end of its own saving.

    It works in any version of transformers.
    """
    if hasattr(trainer, "_rotate_checkpoints"):
        trainer._rotate_checkpoints(use_mtime=True, output_dir=output_dir)
        return
    from transformers.trainer_utils import rotate_checkpoints

    rotate_checkpoints(
        output_dir=output_dir,
        save_total_limit=trainer.args.save_total_limit,
        best_model_checkpoint=trainer.state.best_model_checkpoint,
        use_mtime=True,
    )
