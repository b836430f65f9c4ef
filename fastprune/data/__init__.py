"""Texts to finetune on: the packaged default, files, folders and hub ids, all as `TextData`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastprune.data.columns import Wanted
from fastprune.data.home_assistant import load_home_assistant
from fastprune.data.hub import load_hub
from fastprune.data.slotgated import load_slotgated, slotgated_files
from fastprune.data.tabular import SUFFIXES, load_table_file, load_table_folder, table_files
from fastprune.data.types import Split, TextData, build, identity_of
from fastprune.errors import UsageError

__all__ = ["Split", "TextData", "build", "files_of", "identity_of", "load", "load_source"]


def load(
    data: str | None,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    pair_column: str | None = None,
    slots_column: str | None = None,
    seed: int = 0,
) -> TextData:
    """Load a data set by what ``data`` is.

    None: the packaged home-assistant commands.  A folder: SlotGated (``train/seq.in`` ...) or tables
    (``train.csv``, ``test.csv`` ...).  A .csv, .tsv or .jsonl file: that table.  Anything else: a hub id.

    text_column, label_column: columns of a table or hub data set (default: the usual names).
    pair_column: column of the second sentence.  slots_column: column of space-separated BIO tags.
    seed: chooses the held-out rows when there is no test split; it changes nothing else.

    Raises `UsageError` with one sentence when the data is missing or malformed.
    """
    wanted = Wanted(text_column, label_column, pair_column, slots_column)
    given = [
        f"{argument}={value!r}"
        for argument, value in (
            ("text_column", text_column),
            ("label_column", label_column),
            ("pair_column", pair_column),
            ("slots_column", slots_column),
        )
        if value is not None
    ]
    if data is None:
        _refuse_columns(given, "the packaged default data has")
        return load_home_assistant()
    if not data.strip():
        raise UsageError("data='' is empty: give a folder, a file or a hub id, or leave it out for the default.")
    path = Path(data).expanduser()
    if path.is_dir():
        # resolve() so that data="." still has a name.
        path = path.resolve()
        if any((path / role).is_dir() for role in ("train", "test")):
            _refuse_columns(given, f"the folder {path.name} with seq.in files has")
            return load_slotgated(path)
        return load_table_folder(path, wanted, seed)
    if path.suffix.lower() in SUFFIXES:
        return load_table_file(path, wanted, seed)
    if path.exists():
        raise UsageError(f"data={data!r}: not a {', '.join(SUFFIXES)} file: convert or rename it.")
    return load_hub(data, wanted, seed)


def files_of(data: str | None) -> list[Path]:
    """The files that `load` reads for the same ``data``; none for packaged data and hub ids."""
    path = Path(data or "").expanduser()
    if data is None or not path.exists():
        return []
    if not path.is_dir():
        return [path]
    return [file for file in (*slotgated_files(path), *table_files(path)) if file.is_file()]


def load_source(source: Mapping[str, Any]) -> TextData:
    """What a run's config.json calls ``data_source``: the arguments of `load`, and ``max_train`` (None: all)."""
    arguments = dict(source)
    limit = arguments.pop("max_train", None)
    data = load(arguments.pop("data", None), **arguments)
    return data if limit is None else data.limit(limit)


def _refuse_columns(given: list[str], what: str) -> None:
    if given:
        raise UsageError(f"{given[0]} was given, but {what} no columns to choose from: leave it out.")
