"""Random files of every kind that `select` and `report` read: one sentence, no traceback, nothing else is written.

FASTPRUNE_FUZZ says how many of each kind; `make soak` tries 500.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pyarrow as pa
import pytest
from helpers.made_up_runs import recorded, write_run
from pyarrow import parquet

from fastprune.app.cli import main
from fastprune.app.report import RunFolder, plots
from fastprune.app.report.folder import REPORT

CASES = int(os.environ.get("FASTPRUNE_FUZZ", "15"))
JUNK = [
    '"\ud800"', '"\\ud800"', "1e999", "1" * 5000, "[" * 3000 + "]" * 3000, '{"a":' * 2000 + "1" + "}" * 2000, "null",
    "true", "-1", "1.5", "NaN", "Infinity", '"\\u0000"', '""', '"x"', "[1,2]", '{"a":1}', "9" * 25,
]  # fmt: skip
NAMES = ["index", "score", "label", "run", "seed", "epoch", "kept", "guid", "text"]


def jsonl(draw: random.Random) -> str:
    lines = []
    for i in range(draw.randrange(1, 6)):
        cells = (
            f'"{name}":{draw.choice([str(i), str(i), "0.5", chr(34) + "a" + chr(34), draw.choice(JUNK)])}'
            for name in draw.sample(NAMES, draw.randrange(1, 5))
        )
        lines.append(draw.choice(["{" + ",".join(cells) + "}"] * 3 + [draw.choice(JUNK), ""]))
    return "\n".join(lines) + "\n"


def csv(draw: random.Random) -> str:
    cells = ["0.5", "a", '"', '""', "\x1b[2J", "\ud800", "nan", "inf", "1" * 300, "", "é"]
    rows = [draw.sample(NAMES, draw.randrange(1, 5))]
    for i in range(draw.randrange(6)):
        rows.append([draw.choice([str(i), *cells]) for _ in range(draw.randrange(1, 5))])
    return "\n".join(",".join(row) for row in rows)


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="surrogatepass")


def scores(draw: random.Random, folder: Path) -> list[str]:
    path = folder / draw.choice(["s.csv", "s.jsonl", "s.parquet"])
    write(path, csv(draw) if path.suffix == ".csv" else jsonl(draw))
    more = draw.choice([[], ["--column", "el2n"], ["--strategy", "class-balanced", "--labels", "label"]])
    out = folder / draw.choice(["k.csv", "k.jsonl", "k.parquet"])
    return ["select", str(path), "--keep-fraction", "0.5", "--out", str(out), *more]


VALUES = [
    None, True, -1, 0, 0.5, -0.75, 1.0001, 1e15, 1e99, 1e101, float("nan"), float("-inf"), 2**31, 2**63, 10**400, "",
    "x", "\ud800", "\x1b[2J", "$\\frac{", "_x", "a" * 5000, "\u5b57\u202e", "<script>", [], ["test"], {}, {"a": {}},
]  # fmt: skip


def mutated(draw: random.Random, value):
    """The value with one part of it replaced, left out or doubled."""
    if isinstance(value, (dict, list)) and value and draw.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = draw.choice(keys)
        changed = value.copy()
        if draw.random() < 0.2:
            del changed[key]
        elif isinstance(value, dict) and draw.random() < 0.1:
            changed[str(draw.choice(VALUES))] = changed[key]
        else:
            changed[key] = mutated(draw, value[key])
        return changed
    return draw.choice(VALUES)


def damaged_json(draw: random.Random, path: Path) -> None:
    """One value of the file, or a few of its characters."""
    text = path.read_text()
    if draw.random() < 0.3:
        place = draw.randrange(len(text))
        text = text[:place] + draw.choice(["", "\0", "{", '"', "\ud800", *JUNK]) + text[place + draw.randrange(9) :]
    elif path.suffix == ".jsonl":
        lines = text.splitlines()
        place = draw.randrange(len(lines))
        lines[place] = json.dumps(mutated(draw, json.loads(lines[place])), ensure_ascii=draw.random() < 0.5)
        text = "\n".join(lines)
    else:
        text = json.dumps(mutated(draw, json.loads(text)), ensure_ascii=draw.random() < 0.5)
    write(path, text)


def damaged_table(draw: random.Random, path: Path) -> None:
    """Bytes of the file, or a column of other type or content."""
    if draw.random() < 0.5:
        content = bytearray(path.read_bytes())
        for _ in range(draw.randrange(1, 20)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        path.write_bytes(bytes(content[: draw.choice([len(content), draw.randrange(len(content))])]))
        return
    table = parquet.read_table(path)
    place = draw.randrange(table.num_columns)
    n = draw.choice([table.num_rows] * 4 + [0])
    columns = {
        "text": pa.array(["\x1b[2J"] * n),
        "number": pa.array([draw.choice([-1, 0, 7, 10**7, 10**12, -(2**63)])] * n, pa.int64()),
        "float": pa.array([draw.choice([0.0, float("nan"), float("inf"), 1e300, -1e38])] * n),
        "none": pa.array([None] * n),
        "list": pa.array([[1]] * n),
        "bytes": pa.array([b"\xff"] * n),
        "names": pa.array(["el2n 0.5"] * n).dictionary_encode(),
    }
    column = draw.choice(list(columns.values()))
    if draw.random() < 0.1:
        table = table.remove_column(place)
    else:
        table = table.slice(0, n).set_column(place, table.column_names[place], column)
    parquet.write_table(table, path)


def damaged_run(draw: random.Random, folder: Path) -> list[str]:
    """A whole run folder of which one or two files are damaged."""
    shutil.copytree(whole_run(), folder, dirs_exist_ok=True)
    for path in draw.sample(sorted(folder.iterdir()), draw.choice([1, 1, 2])):
        if draw.random() < 0.05:
            path.unlink()
            draw.choice([Path.mkdir, os.mkfifo, lambda link: link.symlink_to("/etc/passwd")])(path)
        else:
            (damaged_table if path.suffix == ".parquet" else damaged_json)(draw, path)
    out = ["--out", str(folder / "out")]
    return ["report", str(folder), *draw.choice([[], out, [str(whole_run()), *out]])]


@cache
def whole_run() -> Path:
    """A folder with every file that a report reads."""
    path = write_run(
        Path(tempfile.mkdtemp()) / "run",
        metrics=["exact_match", "slot_f1"],
        reported=["test"],
        best="test",
    )
    folder = RunFolder.open(path)
    folder.write_texts({i: (f"text {i}", "label") for i in range(30)})
    folder.write_classes({name: {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 3} for name in "abc"})
    folder.write_summary({"model_run": {"run": "full", "seed": 0, "epoch": 3}})
    folder.write_data_map(recorded("el2n 0.5", 0, list(range(30))))
    return path


def contents(folder: Path) -> dict[str, bytes | None]:
    """What each file holds; None for what is not a file."""
    return {path.name: path.read_bytes() if path.is_file() else None for path in folder.iterdir()}


@pytest.mark.parametrize("kind", [scores, damaged_run])
@pytest.mark.parametrize("seed", range(CASES))
def test_one_sentence_or_success(kind, seed: int, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(plots, "DPI", 30)
    folder = tmp_path / "given"
    folder.mkdir()
    command = kind(random.Random(seed), folder)
    before = contents(folder)
    status = main(command)
    said = capsys.readouterr()
    assert status in (0, 1, 2)
    allowed = {Path(command[command.index("--out") + 1]).name} if "--out" in command else set(REPORT)
    changed = {name for name, content in contents(folder).items() if before.get(name) != content}
    assert changed <= (set() if status else allowed)
    if status:
        assert len(said.err.strip().splitlines()) == 1 and said.err.startswith("fastprune: ")
    assert os.listdir(tmp_path) == ["given"]
    assert "\x1b" not in said.err + said.out


def test_lists_in_a_score_file_are_refused(tmp_path: Path, capsys) -> None:
    """`make soak` met a traceback over them."""
    path = tmp_path / "s.jsonl"
    path.write_text('{"index": 0, "score": 0.5, "seed": [1, 2]}\n')
    assert main(["select", str(path), "--keep-fraction", "0.5", "--out", str(tmp_path / "k.csv")]) == 2
    assert capsys.readouterr().err == f"fastprune: {path}: 'seed' holds lists; give one value a row\n"
