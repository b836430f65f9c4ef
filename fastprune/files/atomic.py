"""Files and folders that are complete or absent, whenever the process is killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

SUFFIX = ".tmp"
OLDER = f".older{SUFFIX}"
"""The name that an old folder has while a new one takes its place."""


def write_atomic(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it.

    A failure leaves no trace.  A killed process leaves a temporary file that `sweep` removes.  The old file stays until
    the new one is on the disk.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=SUFFIX)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        # mkstemp sets the mode 0600.  But others should be able to read the result, as they can read any new file.
        os.chmod(temporary, 0o666 & ~_umask())
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_folder_atomic(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a temporary folder beside ``path``, then put it in the place of an older one.

    First the older folder is renamed.  Then the new one is renamed to ``path``, and then the older one is removed.  So
    there is never half a folder at ``path``.  If the process is killed between the two renames, there is no folder at
    ``path``.  The next call begins with `sweep`, which puts the older one back.
    """
    sweep(path.parent, [path.name])
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=SUFFIX))
    older = temporary.with_name(temporary.name.removesuffix(SUFFIX) + OLDER)
    try:
        write(temporary)
        os.chmod(temporary, 0o777 & ~_umask())
        if path.exists():
            os.replace(path, older)
        os.replace(temporary, path)
    except BaseException:
        if older.exists() and not path.exists():
            os.replace(older, path)
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(older, ignore_errors=True)


def left_over(folder: Path, names: Iterable[str]) -> list[Path]:
    """Return the temporary files and folders that killed processes have left in ``folder``."""
    return [left for name in names for left in folder.glob(f".{name}.*{SUFFIX}")]


def sweep(folder: Path, names: Iterable[str]) -> None:
    """Put back a folder that a killed process had renamed away, and remove what else is `left_over`."""
    for name in names:
        for older in folder.glob(f".{name}.*{OLDER}"):
            if not (folder / name).exists():  # else its successor is in place, and this one perhaps half removed
                os.replace(older, folder / name)
        for left in left_over(folder, [name]):
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
