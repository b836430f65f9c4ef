"""Paths that a user types.  They are expanded once, and no output may replace an input."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fastprune.errors import UsageError


def user_path(text: str) -> Path:
    """Return the path with ~ expanded.  Shells leave it alone in --out=~/run."""
    return Path(text).expanduser()


def refuse_inputs(option: str, out: Path, inputs: Iterable[Path]) -> None:
    """Refuse to write over what is read.

    Args:
        option: the option that names ``out``.
        out: the output.
        inputs: files, or folders of which every file counts.  What does not exist, such as a hub id, is passed over.

    Raises:
        UsageError: ``out`` is one of them, by whatever path or link.
    """
    if not out.exists():
        return
    there = out.resolve()
    for given in inputs:
        if given.is_dir() and there.is_relative_to(given.resolve()):
            raise UsageError(f"{option} {out} is a file of {given}, which is read; choose another name")
        if given.exists() and given.samefile(out):
            raise UsageError(f"{option} {out} is what is read, and would be lost; choose another name")
