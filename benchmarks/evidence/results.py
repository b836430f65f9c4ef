"""Result lines: one JSON object for each run. Each machine kind has one file, which one process writes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.evidence.loop import LOOP_VERSION
from benchmarks.evidence.spec import method_of, run_of
from fastprune.files.atomic import write_atomic

FOLDER = Path(__file__).parents[1] / "results" / "evidence"
Line = dict[str, Any]


def file_of(kind: str, folder: Path = FOLDER) -> Path:
    """The results file of a machine kind."""
    return folder / f"{kind}.jsonl"


def read_lines(path: Path) -> list[Line]:
    """The lines of a results file, in order. There are none if there is no file.

    If the last line has no end, a write was killed. It does not count as a line.
    """
    if not path.is_file():
        return []
    content = path.read_text(encoding="utf-8")
    whole = content[: content.rfind("\n") + 1]
    return [json.loads(line) for line in whole.splitlines() if line.strip()]


def read_all(folder: Path = FOLDER) -> list[Line]:
    """The lines of every results file."""
    return [line for path in sorted(folder.glob("*.jsonl")) for line in read_lines(path)]


def append(path: Path, line: Mapping[str, Any]) -> None:
    """Add a line. When the function returns, the whole line is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(line, sort_keys=True) + "\n"
    with path.open("ab+") as file:
        # Remove a line that a killed process left half written, so that it does not spoil the next one.
        file.seek(0, os.SEEK_END)
        if end := file.tell():
            file.seek(end - 1)
            if file.read(1) != b"\n":
                _drop_rest(path, file)
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def _drop_rest(path: Path, file: Any) -> None:
    content = path.read_bytes()
    file.truncate(content.rfind(b"\n") + 1)


def is_from(line: Mapping[str, Any], kind: str, threads: int) -> bool:
    """Whether the line was made on this kind of machine with this number of threads."""
    return (line["machine"]["kind"], line["machine"]["threads"]) == (kind, threads)


def identity(line: Mapping[str, Any]) -> tuple[str, int, int, int]:
    """What two lines of the same result share: the run's key, the versions of rule and loop, and the threads."""
    return line["key"], line["rule_version"], line["loop_version"], line["machine"]["threads"]


def current(line: Mapping[str, Any]) -> bool:
    """Whether the line was made with today's rule and loop."""
    run = run_of(line["arguments"])
    return line["rule_version"] == method_of(run).rule_version and line["loop_version"] == LOOP_VERSION


def finished(lines: Iterable[Mapping[str, Any]]) -> set[str]:
    """The keys of the runs that need not be done again."""
    return {line["key"] for line in lines if current(line)}


def merge(target: Path, lines: Iterable[Line]) -> int:
    """Add the lines that the file does not have yet. Returns how many there are.

    A second merge of the same lines adds none.
    """
    present = read_lines(target)
    known = {identity(line) for line in present}
    fresh = []
    for line in lines:
        if identity(line) not in known:
            known.add(identity(line))
            fresh.append(line)
    if fresh:
        target.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(line, sort_keys=True) + "\n" for line in [*present, *fresh])
        write_atomic(target, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return len(fresh)


def merge_files(files: Iterable[Path], folder: Path = FOLDER) -> dict[str, int]:
    """Merge the lines of other results files, each into the file of its machine kind. Returns the new lines by kind."""
    by_kind: dict[str, list[Line]] = {}
    for path in files:
        for line in read_lines(path):
            by_kind.setdefault(line["machine"]["kind"], []).append(line)
    return {kind: merge(file_of(kind, folder), lines) for kind, lines in sorted(by_kind.items())}
