"""Loads the data that the user named, as a `TextData`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from fastprune.app.data.build import at_most, build, limit, limit_held_out
from fastprune.app.data.columns import Columns, Wanted, find_columns
from fastprune.app.data.examples import Read, kind_in, read_split, reading_of
from fastprune.app.data.glue import PREFIX, GlueTask, glue_task
from fastprune.app.data.holdout import SHARE, hold_out
from fastprune.app.data.home_assistant import load_home_assistant
from fastprune.app.data.keep import keep_rows
from fastprune.app.data.source import Source, open_tables
from fastprune.app.data.splits import role_of
from fastprune.app.data.table import Table
from fastprune.app.data.turns import read_all_turns
from fastprune.app.data.types import CAUSAL_LM, Kind, Split, TextData
from fastprune.app.quality import ON_REQUEST, deciding_first
from fastprune.errors import UsageError, shown

TASKS = (*get_args(Kind), "pair")
HELD_OUT = "test"
"""What a split made of the training examples is called."""


def load(source: Source | str | None = None, *, seed: int = 0) -> TextData:
    """Load a data set: files, folders, hub ids or, by default, the packaged home-assistant commands.

    Args:
        source: what to read, and how.  A text stands for ``Source(data=text)``.
        seed: chooses the held-out rows where there is no test split.  It changes nothing else.

    Raises:
        UsageError: something is missing, malformed or ambiguous.  The message names the option that settles it.

    >>> data = load()
    >>> data.kind, data.metrics[0], len(data.test)
    ('joint', 'exact_match', 1500)
    """
    source = Source(data=source) if isinstance(source, str) or source is None else source
    _check(source)
    if source.packaged:
        data = load_home_assistant()
    else:
        glue = _glue(source)
        data = _arranged(_read_all(source, glue), source, glue, seed)
    if source.metric is not None:
        more = ON_REQUEST.get(data.kind, ())
        data = replace(data, metrics=deciding_first(data.metrics, source.metric.replace("-", "_"), more))
    if source.keep is not None:
        data = keep_rows(data, Path(source.keep).expanduser())
    if source.max_train is not None:
        data = limit(data, source.max_train)
    return data if source.max_test is None else limit_held_out(data, source.max_test)


def load_rows(
    source: Source, kind: Kind, *, split: str | None = None, labels_needed: bool = False
) -> tuple[Split, tuple[str, ...]]:
    """Return every row of one split that has a text, and notes on what was left out.

    Nothing is held out of it.  Labels are read if they are there.

    Args:
        source: what to read, and how.
        kind: the kind of the model that will read them.
        split: which one.  By default the only one, else train if labels are needed, and test if not.
        labels_needed: leave out rows without a label, and refuse data that have none.

    Raises:
        UsageError: see `load`.
    """
    _check(source)
    if source.packaged:
        data = load_home_assistant()
        packaged = {"train": data.train, **data.held_out}
        return _limited(packaged[_chosen(packaged, split, labels_needed=labels_needed)], source), ()
    glue = _glue(source)
    _, tables = open_tables(source)
    chosen = _chosen(tables, split, labels_needed=labels_needed)
    table = tables[chosen]
    if kind == CAUSAL_LM:
        reads, notes = read_all_turns({chosen: table}, source.wanted)
        return _limited(reads[chosen].split, source), notes
    columns = _columns_of_table(table, source, glue)
    read = read_split(table, columns, kind, reading_of(table, columns, kind), labels_needed=labels_needed)
    note = read.note(table.where)
    return _limited(read.split, source), () if note is None else (note,)


def files_of(source: Source) -> list[Path]:
    """Return the files that `load` may read for the same ``source``.  None of them may be written to.

    Of a folder these are the files whose name, or whose folder's name, means a split.
    """
    found: list[Path] = []
    for name in (source.data, source.keep, *source.files.values()):
        path = Path(name or "").expanduser()
        if name and path.is_dir():
            inside = (file for file in path.rglob("*") if file.is_file())
            found += [file for file in inside if any(role_of(part) for part in file.relative_to(path).parts)]
        elif name and path.exists():
            found.append(path)
    return found


@dataclass(frozen=True)
class _AsRead:
    """Every split of the data as it was read, before one is held out."""

    name: str
    file: str
    kind: Kind
    reads: Mapping[str, Read]
    notes: tuple[str, ...]


def _check(source: Source) -> None:
    if source.task is not None and not source.task.startswith(PREFIX) and source.task not in TASKS:
        raise UsageError(f"--task {source.task}: choose {', '.join(TASKS)} or {PREFIX}NAME.")
    columns = [f"--{name.removesuffix('_column')}-column {value}" for name, value in source.settings().items()
               if name.endswith("_column") and value is not None]  # fmt: skip
    if source.packaged and columns:
        raise UsageError(f"{columns[0]} was given, but the packaged default data has no columns: leave it out.")
    if source.packaged and source.task not in (None, "joint"):
        raise UsageError(f"--task {source.task} was given, but the packaged default data is for joint: name --data.")


def _glue(source: Source) -> GlueTask | None:
    return glue_task(source.task) if source.task is not None and source.task.startswith(PREFIX) else None


def _columns_of_table(table: Table, source: Source, glue: GlueTask | None) -> Columns:
    names = list(table.columns)
    wanted = source.wanted if glue is None else glue.wanted(names)
    missing = [name for name in (wanted.label, wanted.tags) if name is not None and name not in names]
    if missing:  # a test split without labels need not have their column
        wanted = replace(wanted, label=None if wanted.label in missing else wanted.label, tags=None)
    found = find_columns(names, wanted, table.where)
    if glue is None and source.text_column is not None and source.pair_column is None:
        return replace(found, pair=None)
    return found


def _read_all(source: Source, glue: GlueTask | None) -> _AsRead:
    name, tables = open_tables(source)
    if "train" not in tables:
        raise UsageError(
            f"{source.data or name}: no training split, only {', '.join(tables)}: name it in --train-file."
        )
    train = tables["train"]
    if source.task == CAUSAL_LM:
        return _AsRead(name, train.where, CAUSAL_LM, *read_all_turns(tables, source.wanted))
    if source.wanted.label is not None and source.wanted.label not in train.columns:
        find_columns(list(train.columns), Wanted(label=source.wanted.label), train.where)
    if source.wanted.tags is not None and source.wanted.tags not in train.columns:
        find_columns(list(train.columns), Wanted(tags=source.wanted.tags), train.where)
    columns = _columns_of_table(train, source, glue)
    kind, notes = _kind(source, train, columns, glue)
    if kind in ("tokens", "joint") and columns.tags is None:
        raise UsageError(f"{train.where}: --task {kind} needs a tag for each word: name their column in --tags-column.")
    if (source.task == "pair" or (glue is not None and glue.pair)) and columns.pair is None:
        raise UsageError(f"{train.where}: --task pair needs a second text: name its column in --pair-column.")
    reading = reading_of(train, columns, kind)
    reads = {"train": read_split(train, columns, kind, reading, labels_needed=True)}
    for role, table in tables.items():
        if role != "train":
            theirs = _columns_of_table(table, source, glue)
            reads[role] = read_split(table, replace(theirs, pair=theirs.pair if columns.pair else None), kind, reading)
    found = (read.note(tables[role].where) for role, read in reads.items())
    return _AsRead(name, train.where, kind, reads, (*notes, *(note for note in found if note is not None)))


def _kind(source: Source, train: Table, columns: Columns, glue: GlueTask | None) -> tuple[Kind, tuple[str, ...]]:
    if glue is not None:
        return glue.kind, ()
    if source.task is not None:
        kind: Any = "classification" if source.task == "pair" else source.task
        return kind, ()
    guess = kind_in(train, columns)
    if guess.sure:
        return guess.kind, ()
    other = "classification" if guess.kind != "classification" else "regression"
    return guess.kind, (f"taken for {guess.kind}, because {guess.why}; --task {other} if it is not",)


FAR_FROM_ZERO = 20.0
"""A new model needs many epochs to reach numbers with a larger mean or deviation than this."""


def _far_from_zero(train: Split) -> list[str]:
    numbers = np.array([label for label in train.labels or () if isinstance(label, float)])
    with np.errstate(over="ignore", invalid="ignore"):
        mean, deviation = (numbers.mean(), numbers.std()) if len(numbers) else (0.0, 0.0)
    if max(abs(mean), deviation) < FAR_FROM_ZERO:
        return []
    return [
        f"the numbers to predict are {mean:.4g} ± {deviation:.4g}, and a new model begins near 0 and gets there "
        "slowly: divide them, so that most lie between -5 and 5"
    ]


def _arranged(found: _AsRead, source: Source, glue: GlueTask | None, seed: int) -> TextData:
    name, reads, kind = found.name, found.reads, found.kind
    train, notes = reads["train"].split, list(found.notes)
    held_out = {role: read.split for role, read in reads.items() if role != "train" and not read.split.unlabelled}
    unlabelled = {role: read.split for role, read in reads.items() if read.split.unlabelled}
    classes = {str(label) for label in train.labels or () if not isinstance(label, tuple)}
    if kind == "classification" and len(classes) < 2:
        raise UsageError(
            f"{source.data or name}: only one class, {shown(next(iter(classes)))}, is in the training rows: "
            "choose another --label-column (a label of -1 counts as none)."
        )
    if not held_out:
        n = len(train)
        train, test = hold_out(train, seed, source.data or name)
        held_out = {HELD_OUT: test}
        how = "of each tenth of the numbers" if kind == "regression" else "of each class"
        how = "" if kind in ("tokens", CAUSAL_LM) else f", about {SHARE:.0%} {how}"
        if len(test) < SHARE * n / 2 and len(set(train.texts)) < len(train):
            how = ", fewer than a tenth, because rows of one text stay together"
        notes.append(
            f"no labelled test split: {len(test)} of {n} training rows are held out for one{how} (seed {seed})"
        )
    notes += _far_from_zero(train)
    positive = None if glue is None else next((label for label in glue.positive if label in classes), None)
    metrics = () if glue is None else glue.metrics
    data = build(name, train, held_out, unlabelled=unlabelled, metrics=metrics, positive=positive)
    return replace(data, notes=tuple(notes), source=found.file if Path(found.file).is_file() else None)


def _chosen(splits: Mapping[str, Any], wanted: str | None, *, labels_needed: bool) -> str:
    """Return the split that is meant: the named one, the only one, or else a usual one.

    The usual one is train, and to predict test or validation.
    """
    if wanted is None and len(splits) == 1:
        return next(iter(splits))
    usual = ("train",) if labels_needed else ("test", "validation")
    name = wanted or next((name for name in usual if name in splits), "train")
    if name not in splits:
        raise UsageError(f"--split {name}: the data have {', '.join(splits)}: choose one of them.")
    return name


def _limited(split: Split, source: Source) -> Split:
    return split if source.max_train is None else at_most(split, source.max_train, "max_train")
