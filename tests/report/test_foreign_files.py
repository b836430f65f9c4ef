"""Random files of every kind that `select` and `report` read: one sentence, no traceback, nothing else is written.

FASTPRUNE_FUZZ says how many of each kind; `make soak` tries 500.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from fastprune.cli import main

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


def metric(draw: random.Random, epoch: int) -> dict:
    row = {
        "run": draw.choice(["full", "x", 5, None, "\x1b[2J", "\ud800"]),
        "seed": draw.choice([0, "a", None, 10**30]),
        "epoch": draw.choice([epoch, "z", None]),
        "phase": "full",
        "kept": draw.choice([1, None, "x", [1]]),
        "split": draw.choice(["test", "train"]),
        "seconds": draw.choice([1.0, None, "s"]),
        "train_seconds": 1,
        "intent_accuracy": draw.choice([0.5, None, "q", float("nan"), [2]]),
        "examples_seen": draw.choice([5, None, "p"]),
        "churn": draw.choice([0.1, None, "c"]),
        "cycle": draw.choice([0, 1, "c"]),
    }
    for name in draw.sample(list(row), draw.randrange(3)):
        del row[name]
    return row


def run_folder(draw: random.Random, folder: Path) -> list[str]:
    config = ['{"fastprune_run":1}', jsonl(draw), draw.choice(JUNK), '{"fastprune_run":1,"data":"\\ud800","model":5}']
    write(folder / "config.json", draw.choice(config))
    rows = [json.dumps(metric(draw, epoch)) for epoch in range(draw.randrange(4))]
    write(folder / "metrics.jsonl", "\n".join(draw.choice([*[row] * 9, draw.choice(JUNK)]) for row in rows))
    summaries = [
        '{"rows":[]}', '{"rows":[{"run":"full"}]}', "{}", jsonl(draw), '{"rows":5}', '{"rows":[5]}',
        '{"data":1,"model":[],"rows":[{"run":1,"method":2,"keep_fraction":"x","seeds":[0],"n_seeds":"q"}]}',
    ]  # fmt: skip
    others = {
        "summary.json": summaries,
        "texts.json": ["{}", '{"a":1}', "[]", '{"1":["\\ud800","x"]}'],
        "scores.parquet": ["", "PAR1", "\x00\x01" * 20],
    }
    for name, contents in others.items():
        if draw.random() < 0.3:
            write(folder / name, draw.choice(contents))
    return ["report", str(folder)]


@pytest.mark.parametrize("kind", [scores, run_folder])
@pytest.mark.parametrize("seed", range(CASES))
def test_one_sentence_or_success(kind, seed: int, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    command = kind(random.Random(seed), folder)
    status = main(command)
    said = capsys.readouterr()
    assert status in (0, 2)
    if status:
        assert len(said.err.strip().splitlines()) == 1 and said.err.startswith("fastprune: ")
    assert os.listdir(tmp_path) == ["given"]
    assert "\x1b" not in said.err + said.out
