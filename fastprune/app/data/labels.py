"""Turns the cells of a label column into labels, and guesses the task they are for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastprune.app.data.table import Cell
from fastprune.app.data.types import Kind, Label
from fastprune.errors import UsageError, shown

UNLABELLED = "-1"
"""What public data sets write for a label that is withheld."""
MOST_INTEGERS = 30
"""The largest number of different whole numbers that are read as classes.  More of them are read as a scale."""
MOST_NAMES = 100
"""The largest number of classes that occur in lists such as "joy,anger"."""
MOST_LIKE_TEXT = 0.5
"""The largest share of labels that may differ from all others.  Above it the labels are not classes."""
FEW = 30
"""With fewer examples the number of different labels says nothing."""


@dataclass(frozen=True)
class Guess:
    """A task, and why the data look like it.  ``sure`` says that nothing else could be meant."""

    kind: Kind
    why: str
    sure: bool = True


def guess_kind(cells: Sequence[Cell], *, declared: bool, where: str) -> Guess:
    """Guess what a label column is for.

    Args:
        cells: the cells of the training split that are not empty.
        declared: the data set itself names the classes.
        where: the file, for messages.

    Raises:
        UsageError: the labels leave it open.  The message has both options to choose from.
    """
    if any(isinstance(cell, list) for cell in cells):
        return Guess("multi-label", "the labels are lists")
    texts = [cell for cell in cells if isinstance(cell, str)]
    different = set(texts)
    if declared:
        return Guess("classification", "the data set names its classes")
    numbers = [number_of(text) for text in different]
    if all(number is not None for number in numbers):
        whole = all(number is not None and number.is_integer() for number in numbers)
        if not whole:
            return Guess("regression", "the labels are numbers, not all of them whole", sure=False)
        if len(different) > MOST_INTEGERS:
            return Guess("regression", f"the labels are {len(different)} different whole numbers", sure=False)
        return Guess("classification", f"the labels are {len(different)} different whole numbers", sure=False)
    if any("," in text for text in different):
        names = {name for text in different for name in names_in(text)}
        if len(names) < len(different) and len(names) <= MOST_NAMES:
            why = f"the labels with commas are lists over {len(names)} names"
            return Guess("multi-label", why, sure=False)
    if len(texts) > FEW and len(different) > MOST_LIKE_TEXT * len(texts):
        raise UsageError(
            f"{where}: {len(different)} of {len(texts)} labels differ, so they may be texts: name the column of the "
            "classes with --label-column, or say --task classification or --task multi-label."
        )
    return Guess("classification", "the labels are names")


def read_label(cell: Cell, kind: Kind, where: Callable[[], str]) -> Label | None:
    """Return one label of a task.  None if there is none.

    Args:
        cell: what the column holds.
        kind: the task.
        where: names file and line.  It is called only for a message, as it reads the file.

    Raises:
        UsageError: a cell is no number in a regression, or a list where one class is wanted.
    """
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return None
    if kind == "multi-label":
        names = cell if isinstance(cell, list) else names_in(cell)
        return tuple(sorted({name.strip() for name in names if name.strip()}))
    if isinstance(cell, list):
        raise UsageError(
            f"{where()}: the label is a list of {len(cell)}: say --task multi-label, or choose another column."
        )
    if kind != "regression":
        return cell.strip()
    number = number_of(cell)
    if number is None:
        raise UsageError(f"{where()}: the label {shown(cell)} is no number: mend it, or say --task classification.")
    return number


def one_spelling(label: Label | None) -> Label | None:
    """Return a class that is a number in one spelling, so that "1.0" is "1".  Other texts stay as they are, as "01".

    >>> one_spelling("1.0"), one_spelling("01"), one_spelling("1.5")
    ('1', '01', '1.5')
    """
    if not isinstance(label, str) or not any(mark in label for mark in ".eE"):
        return label
    number = number_of(label)
    return str(int(number)) if number is not None and number.is_integer() else label


def is_withheld(cell: Cell) -> bool:
    """Return whether a label cell says that there is none: nothing, or -1 (also as -1.0)."""
    return cell is None or (isinstance(cell, str) and cell.strip() in (UNLABELLED, "-1.0"))


def minus_one_is_nothing(cells: Sequence[Cell]) -> bool:
    """Return whether -1 stands for no label in a column.  It does not where other numbers are below 0 as well."""
    numbers = (number_of(cell) for cell in cells if isinstance(cell, str))
    return not any(number is not None and number < 0 and number != -1 for number in numbers)


def number_of(text: str) -> float | None:
    """Return the finite number that a text is, or None.

    >>> number_of(" 2.5"), number_of("1_000"), number_of("inf")
    (2.5, None, None)
    """
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None


def names_in(text: str) -> list[str]:
    """Return the classes in a text.

    >>> names_in("joy, anger")
    ['joy', 'anger']
    """
    return [name.strip() for name in text.split(",") if name.strip()]
