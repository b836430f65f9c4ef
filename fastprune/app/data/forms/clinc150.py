"""CLINC150's JSON: an object of splits, each a list of [text, intent].

Splits called ``oos_…`` hold what is out of scope.

``{"train": [["what is my balance", "balance"], …], "val": …, "test": …, "oos_train": …, "oos_val": …}``
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastprune.app.data.files import read_text
from fastprune.app.data.splits import role_of
from fastprune.app.data.table import Table
from fastprune.errors import UsageError


def matches(path: Path) -> bool:
    """Return whether it is a .json file that begins with an object whose first value is a list of lists."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return False
    with path.open("rb") as file:
        start = b"".join(file.read(400).split())
    key, _, rest = start.removeprefix(b"\xef\xbb\xbf").partition(b":")
    return key.startswith(b'{"') and rest.startswith((b"[[", b"[]"))


def read(path: Path) -> Mapping[str, Table]:
    """Return the splits by name.  The out-of-scope examples belong to the split of their name."""
    try:
        found: Any = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON ({getattr(error, 'msg', 'nested too deeply')}): mend the file.") from None
    splits: dict[str, dict[str, list[str]]] = {}
    for name, rows in found.items():
        role = role_of(name.removeprefix("oos_")) or name
        into = splits.setdefault(role, {"text": [], "label": []})
        for number, row in enumerate(rows if isinstance(rows, list) else [rows], start=1):
            if not (isinstance(row, list) and len(row) == 2 and all(isinstance(cell, str) for cell in row)):
                raise UsageError(f"{path}, {name}, example {number}: not [text, label]: write two texts.")
            into["text"].append(row[0])
            into["label"].append(row[1])
    return {role: Table(f"{path}, {role}", columns) for role, columns in splits.items() if columns["text"]}
