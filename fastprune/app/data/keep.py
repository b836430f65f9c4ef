"""Trains on the rows that a file names, as ``fastprune select`` writes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from fastprune.app.data.build import train_on
from fastprune.app.data.types import TextData
from fastprune.errors import UsageError
from fastprune.files.score_files import read_columns, whole_numbers


def keep_rows(data: TextData, path: Path) -> TextData:
    """Return ``data`` with those training examples alone whose row is in the file.

    Column ``row`` counts rows of the file that the data were read from.  Without it column ``index`` counts examples of
    the training split.  Rows that are held out, or without a label, are not trained on, and a note says how many.

    Raises:
        UsageError: the file is malformed, names a row that is not there, or leaves nothing.
    """
    columns = read_columns(path)
    column = "row" if "row" in columns else "index"
    wanted = np.unique(whole_numbers(columns, column, f"--keep {path}"))
    places = data.train.row_numbers if column == "row" else range(len(data.train))
    held = [row for split in data.held_out.values() for row in split.row_numbers] if column == "row" else []
    most = max([*places, *held], default=-1)
    if len(wanted) and not (0 <= wanted[0] and wanted[-1] <= most + (1000 if column == "row" else 0)):
        raise UsageError(
            f"--keep {path}: {column} {int(wanted[0] if wanted[0] < 0 else wanted[-1])} is not in the training data, "
            f"which end at {most}: give the file that was selected from these data."
        )
    chosen = set(wanted.tolist())
    indices = [i for i, row in enumerate(places) if row in chosen]
    if not indices:
        raise UsageError(f"--keep {path}: none of its {len(chosen)} rows is in the training data: give another file.")
    missing = len(chosen) - len(indices)
    note = f"--keep: {len(indices)} of {len(data.train)} training examples are trained on"
    note += f"; {missing} rows of the file are held out or left out" if missing else ""
    return replace(train_on(data, indices), notes=(*data.notes, note), source=data.source)
