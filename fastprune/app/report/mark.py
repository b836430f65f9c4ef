"""Marks a report's files as ours, so that no other file is written over."""

from __future__ import annotations

import os
from pathlib import Path

from fastprune.app.report.folder import HTML, PAGE, PICTURE, is_ours
from fastprune.errors import UsageError

COMMENT = "\n<!-- made by fastprune report -->\n"
PNG_FIELDS = {"Software": "fastprune report"}
_PNG_MARK = b"Software\0fastprune report"


def refuse_foreign(folder: Path) -> None:
    """Refuse a folder whose files would be written over, unless they are ours.

    A folder passes that is new, is a run folder of ours, or has no foreign file of a report's name.

    Raises:
        UsageError: the folder is a file, or a file in it is in the way.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise UsageError(f"--out {folder} is a file; choose another name for the report's folder")
    if is_ours(folder):
        return
    for name in (PICTURE, PAGE, HTML):
        path = folder / name
        if os.path.lexists(path) and not _is_marked(path):
            raise UsageError(f"--out {folder} holds a {name} that fastprune did not write; choose another folder")


def _is_marked(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        if path.name == PICTURE:
            return _PNG_MARK in file.read(1000)
        return file.read().endswith(COMMENT.encode())
