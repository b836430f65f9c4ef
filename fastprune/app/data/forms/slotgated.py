"""Joint intent and slot folders in the SlotGated form.

``<folder>/{train,test,valid}`` (or validation, dev) are folders.  Each holds ``seq.in`` (one sentence a line),
``seq.out`` (its BIO tags) and ``label`` (its intent).  A label such as ``a#b`` is one class.  Folders without any
``seq.out`` are plain classification.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fastprune.app.data.files import lines_of
from fastprune.app.data.splits import role_of
from fastprune.app.data.table import Table, line_numbers
from fastprune.errors import UsageError

SPLIT_FILES = ("seq.in", "seq.out", "label")


def matches(path: Path) -> bool:
    """Return whether it is a folder with folders that hold a file of the form."""
    return bool(_parts(path)) or (path / "seq.in").is_file()


def read(path: Path) -> Mapping[str, Table]:
    """Return the splits by name.  A lone folder is train."""
    parts = _parts(path) or [path]
    with_tags = any((part / "seq.out").is_file() for part in parts)
    roles: dict[str, Table] = {}
    for part in parts:
        role = role_of(part.name) or "train"
        if role in roles:
            raise UsageError(f"{path}: two folders for {role}: keep one folder for each split.")
        roles[role] = _read_folder(part, with_tags)
    return roles


def _parts(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    inside = (part for part in sorted(path.iterdir()) if part.is_dir() and role_of(part.name))
    return [part for part in inside if any((part / name).is_file() for name in SPLIT_FILES)]


def _read_folder(folder: Path, with_tags: bool) -> Table:
    files = {"text": "seq.in", "label": "label"} | ({"tags": "seq.out"} if with_tags else {})
    columns = {column: lines_of(folder / name) for column, name in files.items()}
    for column, name in files.items():
        if len(columns[column]) != len(columns["text"]):
            raise UsageError(
                f"{folder / name}: {len(columns[column])} lines, but {folder / 'seq.in'} has {len(columns['text'])}: "
                "give one line per sentence."
            )
    return Table(str(folder / "seq.in"), columns, {}, line_numbers())
