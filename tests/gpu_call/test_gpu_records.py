"""Results survive a process that dies while it writes them."""

from __future__ import annotations

import os
from pathlib import Path

from gpu import records


def test_records_come_back_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    for number in range(3):
        records.append(path, "count" if number else "first", number=number)
    found = records.read(path)
    assert [r["number"] for r in found] == [0, 1, 2]
    assert [r["number"] for r in records.of_kind(found, "count")] == [1, 2]
    assert records.last(found, "count")["number"] == 2 and records.last(found, "nothing") is None


def test_a_torn_line_costs_nothing_before_or_after_it(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    records.append(path, "before")
    with open(path, "a") as file:
        file.write('{"kind": "torn", "ms": [1.0, 2')
    records.append(path, "after")
    assert [r["kind"] for r in records.read(path)] == ["before", "after"]
    assert path.read_bytes().endswith(b"}\n")


def test_what_is_no_record_is_left_out() -> None:
    assert records.parse('3\n[]\n{"no": "kind"}\n\n{"kind": "one"}') == [{"kind": "one"}]
    assert records.read(Path("there/is/no/such/file")) == []


def test_a_record_is_on_the_disk_when_append_returns(tmp_path: Path, monkeypatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    path = tmp_path / "results.jsonl"
    records.append(path, "one")
    assert len(synced) == 1 and records.read(path)[0]["kind"] == "one"
