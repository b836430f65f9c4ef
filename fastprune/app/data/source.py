"""Where data come from, and the tables of each split that are found there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastprune.app.data import forms
from fastprune.app.data.builders import read_table
from fastprune.app.data.columns import Wanted, listing, split_column
from fastprune.app.data.forms.annotated import rewritten
from fastprune.app.data.forms.lines import read_lines
from fastprune.app.data.glue import HUB, PREFIX, glue_task, read_glue
from fastprune.app.data.hub import is_saved, load_hub, load_saved
from fastprune.app.data.splits import role_of
from fastprune.app.data.table import Table, appended
from fastprune.app.data.text import SUFFIXES, kind_of
from fastprune.errors import UsageError, shown

Tables = Mapping[str, Table]
NOT_DATA = (".md", ".html", ".htm", ".png", ".pdf", ".py", ".arrow", ".lock", ".bin", ".safetensors", ".pt")


@dataclass(frozen=True)
class Source:
    """Which data, and how to read them.  Every field is an option of the command line, None if it was not given.

    Attributes:
        data: a folder, a file or a hub id.  None means the packaged commands.
        train_file, validation_file, test_file: one file a split, in place of ``data``.
        task: a `Kind`, "pair" or "glue/NAME".
        metric: the deciding quality measure.
        text_column, label_column, pair_column, tags_column, id_column, split_column: columns of a table.
        columns: names for the columns of a table without a header line.
        encoding: encoding of text files.
        max_train, max_test: that many random examples at most.
        keep: a file of the training rows to keep, as ``fastprune select`` writes it.
    """

    data: str | None = None
    train_file: str | None = None
    validation_file: str | None = None
    test_file: str | None = None
    task: str | None = None
    metric: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    pair_column: str | None = None
    tags_column: str | None = None
    id_column: str | None = None
    split_column: str | None = None
    columns: tuple[str, ...] | None = None
    encoding: str | None = None
    max_train: int | None = None
    max_test: int | None = None
    keep: str | None = None

    def settings(self) -> dict[str, Any]:
        """Return the fields as JSON holds them, for the record of a run."""
        return asdict(self)

    @property
    def packaged(self) -> bool:
        """Whether nothing is named, so that the packaged commands are meant."""
        glue = self.task is not None and self.task.startswith(PREFIX)
        return self.data is None and not self.files and not glue

    @property
    def files(self) -> dict[str, str]:
        """The files named by split."""
        named = {"train": self.train_file, "validation": self.validation_file, "test": self.test_file}
        return {role: path for role, path in named.items() if path is not None}

    @property
    def wanted(self) -> Wanted:
        """The columns that were named."""
        return Wanted(self.text_column, self.label_column, self.pair_column, self.tags_column, self.id_column)


def open_tables(source: Source) -> tuple[str, Tables]:
    """Return a name for the data, and all their tables by split.

    Raises:
        UsageError: something is missing, malformed or not understood.
    """
    if source.files:
        if source.data is not None:
            raise UsageError(
                "--data and --train-file, --validation-file or --test-file name data twice: leave one out."
            )
        paths = {role: Path(name).expanduser() for role, name in source.files.items()}
        tables = {role: read_file(path, source) for role, path in paths.items()}
        first = next(iter(paths.values()))
        return first.resolve().parent.name or first.stem, tables
    glue = glue_task(source.task) if source.task is not None and source.task.startswith(PREFIX) else None
    data = source.data
    if data is None:
        if glue is None:
            raise ValueError("nothing is named")
        data = f"{HUB}:{source.task.removeprefix(PREFIX)}" if source.task else HUB
    if not data.strip():
        raise UsageError("data='' is empty: give a folder, a file or a hub id, or leave it out for the default.")
    path = Path(data).expanduser()
    if not path.exists():
        return data, load_hub(data)
    # resolve() so that data="." still has a name.
    name = path.resolve().name if path.is_dir() else path.stem
    if glue is not None and path.is_dir() and not is_saved(path):
        return name, read_glue(path, glue)
    if is_saved(path):
        return name, load_saved(path)
    found = forms.read_form(path)
    if found is not None:
        return name, found
    return name, _folder(path, source) if path.is_dir() else _parts(read_file(path, source), source)


def read_file(path: Path, source: Source) -> Table:
    """Read the table of one file, by its suffix and, for text files, by its lines."""
    kind = kind_of(path)
    if not path.is_file():
        raise UsageError(f"{path}: no such file: check the path or add the file.")
    if kind in SUFFIXES:
        return rewritten(read_table(path, encoding=source.encoding, header=source.columns))
    if kind in NOT_DATA:
        raise UsageError(f"{path}: no file of examples: give one of {', '.join(SUFFIXES)} or a text file.")
    return rewritten(read_lines(path, source.encoding, source.columns))


def split_files(folder: Path) -> dict[str, list[Path]]:
    """Return the files of a folder by the split that their names mean.  There are several only for parts of a split."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        role = role_of(path.name)
        if role is not None and path.is_file() and kind_of(path) not in NOT_DATA and not path.name.startswith("."):
            found.setdefault(role, []).append(path)
    for paths in found.values():
        if len(paths) > 1 and {kind_of(path) for path in paths} != {".parquet"}:
            names = listing(path.name for path in paths)
            raise UsageError(f"{folder}: holds {names}: keep one file per split, or name them with --train-file ….")
    return found


def _folder(folder: Path, source: Source) -> Tables:
    files = split_files(folder)
    if not files:
        raise UsageError(
            f"{folder}: no file in it has train, validation or test in its name, nor does a folder with seq.in and "
            "label: point --data at a folder that has them, or name files with --train-file."
        )
    return {role: appended([read_file(path, source) for path in paths], str(folder)) for role, paths in files.items()}


def _parts(table: Table, source: Source) -> Tables:
    """Return one file as its splits, if a column says which row is of which."""
    column = split_column(list(table.columns), source.split_column, table.where)
    if column is None:
        return {"train": table}
    rows: dict[str, list[int]] = {}
    for i, cell in enumerate(table.columns[column]):
        role = role_of(cell) if isinstance(cell, str) else None
        if role is None:
            if source.split_column is None:
                return {"train": table}
            raise UsageError(
                f"{table.place(i)}: --split-column {column!r} is {shown(cell)}: write train, validation or test."
            )
        rows.setdefault(role, []).append(i)
    return {role: table.rows(chosen) for role, chosen in rows.items()}
