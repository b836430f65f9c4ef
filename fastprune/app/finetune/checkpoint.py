"""Lets a killed comparison resume: the results of finished runs, and the checkpoints of the current run.

``checkpoint/`` in the run folder holds

* ``finished-K``: the result of run K, written by `state_files`.
* ``run-K/checkpoint-S``: what Transformers' Trainer saved after S steps of run K, the newest two.  Our rows lie beside
  its own files, also written by `state_files`.

Each of these gets ``manifest.json``, written last, with the SHA-256 of all its files.  A kill, a broken disk or a copy
that was cut off can leave a folder that is not what its manifest says.  Then the folder before it is used.  All of them
are removed when the last run has ended.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastprune.app.finetune.ranks import tell
from fastprune.app.finetune.state_files import read_state_files, write_state_files
from fastprune.app.report.folder import SUMMARY, is_ours
from fastprune.errors import UsageError
from fastprune.files.atomic import write_atomic, write_folder_atomic
from fastprune.files.lock import LOCK

CHECKPOINT = "checkpoint"
MANIFEST = "manifest.json"
CHECKPOINTS_KEPT = 2


def run_folder(folder: Path, number: int) -> Path:
    """Return where the Trainer of run ``number`` puts its checkpoints."""
    return folder / CHECKPOINT / f"run-{number}"


def save(path: Path, state: Any) -> None:
    """Complete the checkpoint that the Trainer has written in ``path``.  Only the newest of the older ones stays."""
    seal(path, state)
    for older in _by_steps(path.parent)[CHECKPOINTS_KEPT:]:
        shutil.rmtree(older)


def seal(path: Path, state: Any) -> None:
    """Add our state to the folder ``path``, and then, last, its manifest."""
    write_state_files(path, state)
    digests = {str(file.relative_to(path)): _digest(file) for file in _files(path)}
    text = json.dumps({"sha256": digests}, indent=2) + "\n"
    write_atomic(path / MANIFEST, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def newest_whole(folder: Path, number: int) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest whole checkpoint of run ``number`` and our state in it, or None without one."""
    for path in _by_steps(run_folder(folder, number)):
        if (state := _read_if_whole(path, ("spec", "rows"))) is not None:
            return path, state
    return None


def write_finished(folder: Path, number: int, result: Mapping[str, Any]) -> None:
    """Keep the result of run ``number``, and remove its checkpoints, which are no longer needed."""
    parent = folder / CHECKPOINT
    parent.mkdir(exist_ok=True)
    write_folder_atomic(parent / f"finished-{number}", lambda temporary: seal(temporary, result))
    shutil.rmtree(run_folder(folder, number), ignore_errors=True)


def read_finished(folder: Path) -> dict[int, dict[str, Any]]:
    """Return the results of finished runs by number.  Damaged ones are left out, with a note."""
    numbers = {path: path.name.removeprefix("finished-") for path in (folder / CHECKPOINT).glob("finished-*")}
    found = {int(n): _read_if_whole(path, ("spec", "rows")) for path, n in sorted(numbers.items()) if n.isdecimal()}
    return {number: result for number, result in found.items() if result is not None}


def has_checkpoint(folder: Path) -> bool:
    """Return whether there is anything to go on from, whole or not.

    Raises:
        UsageError: it is of an earlier version.
    """
    names = [path.name for path in (folder / CHECKPOINT).iterdir()] if (folder / CHECKPOINT).is_dir() else []
    if (folder / "checkpoint.pt").is_file() or any(name.isdecimal() for name in names):
        raise UsageError(
            f"--resume: the checkpoints in {folder} are of an earlier version, whose runs this one cannot go on with; "
            "start again in another folder"
        )
    return any((folder / CHECKPOINT).glob("finished-*")) or any((folder / CHECKPOINT).glob("run-*/checkpoint-*"))


def can_go_on(folder: Path, *, extend: bool = False) -> bool:
    """Return whether there is something to go on from.  A run killed before its first checkpoint starts again.

    Raises:
        UsageError: the folder is not ours, or holds nothing to go on with.
    """
    option = "--extend" if extend else "--resume"
    if set(folder.iterdir()) - {folder / LOCK} and not is_ours(folder):
        raise UsageError(f"{option}: {folder} is no run folder of fastprune, so nothing in it is touched; see --out")
    ended = (folder / SUMMARY).is_file()
    if has_checkpoint(folder):
        if extend:
            raise UsageError(f"--extend: the run in {folder} has not ended; --resume it first")
        return True
    if ended and not extend:
        raise UsageError(f"--resume: the run in {folder} has ended; `fastprune report {folder}` shows it")
    if extend and not ended:
        raise UsageError(f"--extend: {folder} holds no finished run; leave --extend out to start")
    if not ended:
        tell(f"note: {folder} holds no checkpoint yet; starting from the beginning")
    return ended


def remove_checkpoint(folder: Path) -> None:
    """Remove all checkpoints: the comparison has ended."""
    shutil.rmtree(folder / CHECKPOINT, ignore_errors=True)


def _by_steps(folder: Path) -> list[Path]:
    """Return the Trainer's checkpoints, the newest first."""
    steps = {path: path.name.removeprefix("checkpoint-") for path in folder.glob("checkpoint-*")}
    return sorted((path for path in steps if steps[path].isdecimal()), key=lambda p: int(steps[p]), reverse=True)


def _read_if_whole(path: Path, keys: tuple[str, ...]) -> dict[str, Any] | None:
    why = _damage(path)
    if why is None:
        try:
            state: dict[str, Any] = read_state_files(path)
            if set(keys) <= state.keys():
                return state
            why = "it is the state of something else"
        except Exception as error:  # a manifest made by somebody else
            why = f"damaged ({type(error).__name__}: {error})"
    tell(f"note: the checkpoint {path} is {why}; it is passed over")
    return None


def _damage(path: Path) -> str | None:
    """Return why a folder is not what its manifest says, or None if it is."""
    if not (path / MANIFEST).exists():
        return "not complete"
    try:
        digests = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["sha256"]
        files = {str(file.relative_to(path)): file for file in _files(path)}
        if files.keys() != digests.keys():
            return f"damaged ({sorted(files.keys() ^ digests.keys())[0]} is not in it, or not in {MANIFEST})"
        for name, file in files.items():
            if digests[name] != _digest(file):
                return f"damaged ({name} has another SHA-256 than {MANIFEST} says)"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"damaged ({type(error).__name__}: {error})"
    return None


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file() and file.name != MANIFEST)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
