"""A comparison that was killed goes on: results of finished runs and the state of the one under way.

``checkpoint/`` in the run folder holds the two newest states, a numbered folder each: `state_files` and, written last,
``manifest.json`` with the SHA-256 of both files.  A folder is written under another name and renamed at every epoch's
end.  A state that is not what its manifest says, after a broken disk or a copy that was cut off, is passed over for the
one before.  All of it goes away when the last run has ended.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from fastprune.atomic import write_folder_atomic
from fastprune.errors import UsageError
from fastprune.finetune.state_files import STATE, TENSORS, read_state, write_state

CHECKPOINT = "checkpoint"
MANIFEST = "manifest.json"
KEPT = 2
OLDER = "checkpoint.pt"
"""What versions before wrote: a pickle."""


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Add ``state`` as the folder's newest checkpoint; the one before stays, older ones go."""
    parent = folder / CHECKPOINT
    parent.mkdir(exist_ok=True)
    numbers = _numbers(folder)

    def write(temporary: Path) -> None:
        write_state(temporary, state)
        digests = {name: _digest(temporary / name) for name in (STATE, TENSORS)}
        (temporary / MANIFEST).write_text(json.dumps({"sha256": digests}, indent=2) + "\n", encoding="utf-8")

    write_folder_atomic(parent / str(max(numbers, default=0) + 1), write)
    for number in sorted(numbers)[: len(numbers) - (KEPT - 1)]:
        shutil.rmtree(parent / str(number))


def has_checkpoint(folder: Path) -> bool:
    """Whether there is a state to go on from, whole or not."""
    return bool(_numbers(folder)) or (folder / OLDER).is_file()


def load_checkpoint(folder: Path, options: dict[str, Any], fingerprint: str) -> dict[str, Any]:
    """The newest whole state saved in ``folder``, if it belongs to these options and this data.

    Raises:
        UsageError: there is none, or it was made with other data or other options.
    """
    state = _newest_whole(folder)
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
    shutil.rmtree(folder / CHECKPOINT, ignore_errors=True)


def _newest_whole(folder: Path) -> dict[str, Any]:
    numbers = sorted(_numbers(folder), reverse=True)
    if not numbers and (folder / OLDER).is_file():
        raise UsageError(
            f"--resume: {folder / OLDER} is of an earlier version, whose runs this one cannot go on with; start again "
            "in another folder"
        )
    if not numbers:
        raise UsageError(
            f"--resume: {folder} holds no checkpoint; the run has ended or never reached its first epoch's end"
        )
    for number in numbers:
        path = folder / CHECKPOINT / str(number)
        if (why := _damage(path)) is None:
            try:
                state: dict[str, Any] = read_state(path)
                if {"fingerprint", "options"} <= state.keys():
                    return state
                why = "it is the state of something else"
            except Exception as error:  # a manifest made by somebody else
                why = f"{type(error).__name__}: {error}"
        print(f"note: the checkpoint {path} is damaged ({why}); it is passed over", file=sys.stderr)
    raise UsageError(f"--resume: no checkpoint in {folder / CHECKPOINT} is whole; start again in another folder")


def _damage(path: Path) -> str | None:
    """Why a state is not what its manifest says; None if it is."""
    try:
        digests = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["sha256"]
        for name in (STATE, TENSORS):
            if digests[name] != _digest(path / name):
                return f"{name} has another SHA-256 than {MANIFEST} says"
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _numbers(folder: Path) -> list[int]:
    parent = folder / CHECKPOINT
    return [int(path.name) for path in parent.iterdir() if path.name.isdecimal()] if parent.is_dir() else []


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
