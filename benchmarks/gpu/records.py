"""The results of a call: one JSON object a line, each on the disk before the next thing is tried.

A process can be killed while it writes. So a line that does not parse is skipped, and a writer that finds a torn
line ends it first.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

NAME = "results.jsonl"
Record = dict[str, Any]


def append(path: Path, kind: str, **fields: Any) -> Record:
    """Write one record and wait until the disk has it."""
    record = {"kind": kind, "time": round(time.time(), 3), **fields}
    line = (json.dumps(record, default=str) + "\n").encode()
    with open(path, "ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                line = b"\n" + line
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    return record


def parse(text: str) -> list[Record]:
    """The records of a file's text; torn lines and lines that hold no record are left out."""
    records = []
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "kind" in record:
            records.append(record)
    return records


def read(path: Path) -> list[Record]:
    """The records of a file; none if there is no file."""
    return parse(path.read_text(errors="replace")) if path.exists() else []


def of_kind(records: Iterable[Record], kind: str) -> list[Record]:
    """The records of one kind, in their order."""
    return [record for record in records if record["kind"] == kind]


def last(records: Iterable[Record], kind: str) -> Record | None:
    """The newest of one kind; None if there is none."""
    found = of_kind(records, kind)
    return found[-1] if found else None
