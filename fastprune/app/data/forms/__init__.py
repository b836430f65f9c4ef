"""Forms of data sets that no builder of the `datasets` package reads: one module each, recognised by what is there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fastprune.app.data.forms import clinc150, line_pairs, slotgated
from fastprune.app.data.table import Table

_OF_SEVERAL_SPLITS = (slotgated, line_pairs, clinc150)


def read_form(path: Path) -> Mapping[str, Table] | None:
    """Return the splits of a folder or file in one of the forms that hold several.  None if it is in none of them.

    Raises:
        UsageError: it is in such a form, and malformed.
    """
    form = next((form for form in _OF_SEVERAL_SPLITS if form.matches(path)), None)
    return None if form is None else form.read(path)
