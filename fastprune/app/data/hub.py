"""Data sets of the Hugging Face hub, by id (``owner/name`` or ``owner/name:config``), and folders of `save_to_disk`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastprune.app.data.builders import datasets_for, table_of
from fastprune.app.data.splits import role_of
from fastprune.app.data.table import Table
from fastprune.errors import UsageError

_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(:[\w.-]+)?")
_MARKS = ("dataset_dict.json", "state.json")


def load_hub(data: str) -> Mapping[str, Table]:
    """Return the splits of a hub data set, through ``datasets.load_dataset``.  It needs the network or a cache.

    Raises:
        UsageError: the id is not found.
    """
    not_found = f"data={data!r}: neither such a path nor a hub data set was found: check the spelling"
    if not _ID.fullmatch(data):
        raise UsageError(f"{not_found}.")
    datasets = datasets_for(data)
    path, _, config = data.partition(":")
    try:
        found = datasets.load_dataset(path, config or None)
    except Exception as error:  # every hub, network and script failure ends in the same advice
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise UsageError(f"{not_found} ({first_line}).") from error
    return tables_of(found, data)


def is_saved(path: Path) -> bool:
    """Return whether a folder is what ``save_to_disk`` of the datasets package leaves."""
    return path.is_dir() and any((path / name).is_file() for name in _MARKS)


def load_saved(path: Path) -> Mapping[str, Table]:
    """Return the splits of such a folder.

    Raises:
        UsageError: its files are damaged.
    """
    try:
        found = datasets_for(str(path)).load_from_disk(str(path))
    except Exception as error:  # damaged files fail in every way there is
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise UsageError(f"{path}: not a whole folder of save_to_disk ({reason}): save it again.") from error
    return tables_of(found, str(path))


def tables_of(found: Any, where: str) -> Mapping[str, Table]:
    """Return the tables of a `datasets.DatasetDict` by the names of its splits.  A lone `datasets.Dataset` is train."""
    if not hasattr(found, "keys"):
        return {"train": table_of(found, where)}
    return {role_of(name) or name: table_of(split, f"{where}, {name}") for name, split in found.items()}
