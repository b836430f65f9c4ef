"""Files and folders that are complete or absent, whenever the process is killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

SUFFIX = ".tmp"


def write_atomic(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it.

    A failure leaves no trace, a killed process a temporary file that `sweep` removes; the old file stays until the
    new one is on the disk.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=SUFFIX)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        # mkstemp gives 0600; what is written here is meant to be read by others as any new file is.
        os.chmod(temporary, 0o666 & ~_umask())
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_folder_atomic(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a temporary folder beside ``path``, then put it in the place of an older one.

    Between the two renames of the last step there is no folder at all, but never half of one.
    """
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=SUFFIX))
    try:
        write(temporary)
        os.chmod(temporary, 0o777 & ~_umask())
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def left_over(folder: Path, names: Iterable[str]) -> list[Path]:
    """What a killed process left of writing these files and folders in ``folder``."""
    return [left for name in names for left in folder.glob(f".{name}.*{SUFFIX}")]


def sweep(folder: Path, names: Iterable[str]) -> None:
    """Remove what is `left_over`."""
    for left in left_over(folder, names):
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
