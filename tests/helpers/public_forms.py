"""Small data sets in the forms of public ones, made up: `write_form(name, folder)` gives the options that read one."""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from fastprune.app.data import Source

N = 24
WORDS = "play some jazz music in the kitchen tomorrow at nine please turn off lights near my bed".split()


def texts(n: int = N, seed: int = 0) -> list[str]:
    """Different texts of 3 to 6 words."""
    rng = random.Random(seed)
    return [f"{' '.join(rng.choices(WORDS, k=rng.randint(3, 5)))} {seed}x{i}" for i in range(n)]


def write_rows(path: Path, header: Sequence[str] | None, rows: Sequence[Sequence[object]]) -> None:
    """A .csv, or a .tsv without quotes."""
    tabs = path.name.endswith((".tsv", ".txt", ".tsv.gz"))
    lines = [list(header)] if header else []
    lines += [[str(cell) for cell in row] for row in rows]
    if tabs:
        text = "".join("\t".join(line) + "\n" for line in lines)
        opened = gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w")
        with opened as file:
            file.write(text)
        return
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(lines)


def write_json_lines(path: Path, rows: Sequence[object]) -> None:
    """One object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _slotgated(folder: Path, *, tags: bool) -> Source:
    for seed, role in enumerate(("train", "valid", "test")):
        (folder / role).mkdir()
        lines = texts(seed=seed)
        (folder / role / "seq.in").write_text("\n".join(lines) + "\n")
        (folder / role / "label").write_text("".join(f"intent_{i % 3}\n" for i in range(N)))
        if tags:
            rows = (" ".join(["B-what", *["O"] * (len(line.split()) - 1)]) for line in lines)
            (folder / role / "seq.out").write_text("\n".join(rows) + "\n")
    return Source(data=str(folder))


def _banking(folder: Path) -> Source:
    for seed, role in enumerate(("train", "test")):
        rows = [(text, f"card_{i % 4}") for i, text in enumerate(texts(seed=seed))]
        write_rows(folder / f"{role}.csv", ("text", "category"), rows)
    return Source(data=str(folder))


def _trec(folder: Path) -> Source:
    for seed, name in enumerate(("train_5500.label", "TREC_10.label")):
        lines = (
            f"{('DESC:manner', 'NUM:count', 'HUM:ind')[i % 3]} {text} ?\n" for i, text in enumerate(texts(seed=seed))
        )
        (folder / name).write_text("".join(lines))
    return Source(train_file=str(folder / "train_5500.label"), test_file=str(folder / "TREC_10.label"))


def _massive(folder: Path) -> Source:
    rows = [
        {"id": str(i), "locale": "en-US", "partition": ("train", "train", "dev", "test")[i % 4], "scenario": "s",
         "intent": f"alarm_{i // 4 % 2}", "utt": text,
         "annot_utt": f"[what : {text.split()[0]}] {text.split(None, 1)[1]}"}
        for i, text in enumerate(texts(4 * N))
    ]  # fmt: skip
    write_json_lines(folder / "en-US.jsonl", rows)
    return Source(data=str(folder / "en-US.jsonl"))


def _slurp(folder: Path) -> Source:
    for seed, role in enumerate(("train", "devel", "test")):
        rows = [
            {"slurp_id": i, "sentence": text, "intent": f"i_{i % 2}", "scenario": "i", "action": "x",
             "tokens": [{"surface": word, "id": k} for k, word in enumerate(text.split())],
             "entities": [{"span": [0, 1], "type": "what"}] if i % 2 else [], "recordings": []}
            for i, text in enumerate(texts(seed=seed))
        ]  # fmt: skip
        write_json_lines(folder / f"{role}.jsonl", rows)
    return Source(data=str(folder))


def _clinc(folder: Path) -> Source:
    found = {
        role: [[text, f"in_{i % 3}"] for i, text in enumerate(texts(seed=s))]
        for s, role in enumerate(("train", "val", "test"))
    }
    found |= {
        f"oos_{role}": [[text, "oos"] for text in texts(4, seed=9 + s)]
        for s, role in enumerate(("train", "val", "test"))
    }
    (folder / "data_full.json").write_text(json.dumps(found))
    return Source(data=str(folder / "data_full.json"))


def _conll(folder: Path) -> Source:
    for seed, name in enumerate(("eng.train", "eng.testa", "eng.testb")):
        blocks = ["-DOCSTART- -X- O O\n"]
        for text in texts(seed=seed):
            blocks.append("".join(f"{w} NN I-NP {'I-PER' if k == 0 else 'O'}\n" for k, w in enumerate(text.split())))
        (folder / name).write_text("\n".join(blocks))
    return Source(data=str(folder))


def _goemotions(folder: Path) -> Source:
    for seed, role in enumerate(("train", "dev", "test")):
        rows = [
            (text, ("1", "0,2", "2", "1,2", "0", "0,1")[i % 6], f"id{i}") for i, text in enumerate(texts(seed=seed))
        ]
        write_rows(folder / f"{role}.tsv", None, rows)
    return Source(data=str(folder), columns=("text", "label", "id"))


def _tweeteval(folder: Path) -> Source:
    (folder / "mapping.txt").write_text("0\tnegative\n1\tpositive\n")
    for seed, role in enumerate(("train", "val", "test")):
        (folder / f"{role}_text.txt").write_text("\n".join(texts(seed=seed)) + "\n")
        (folder / f"{role}_labels.txt").write_text("".join(f"{i % 2}\n" for i in range(N)))
    return Source(data=str(folder))


def _glue(name: str) -> Callable[[Path], Source]:
    def write(folder: Path) -> Source:
        first, second = texts(seed=1), texts(seed=2)
        labels = {
            "mnli": [("entailment", "neutral", "contradiction")[i % 3] for i in range(N)],
            "qnli": [("entailment", "not_entailment")[i % 2] for i in range(N)],
            "rte": [("entailment", "not_entailment")[i % 2] for i in range(N)],
            "stsb": [f"{i / 7:.3f}" for i in range(N)],
        }.get(name, [str(i % 2) for i in range(N)])
        cells = {"a": first, "b": second, "label": labels, "i": [str(i) for i in range(N)], "": [""] * N}
        names, columns = GLUE[name]
        for role in ("train", *(("dev_matched", "dev_mismatched") if name == "mnli" else ("dev",))):
            header = None if name == "cola" else names
            write_rows(folder / f"{role}.tsv", header, list(zip(*(cells[column] for column in columns), strict=True)))
        kept = [k for k, column in enumerate(columns) if column != "label"]
        for role in ("test_matched", "test_mismatched") if name == "mnli" else ("test",):
            rows = list(zip(*(cells[columns[k]] for k in kept), strict=True))
            write_rows(folder / f"{role}.tsv", [names[k] for k in kept], rows)
        return Source(data=str(folder), task=f"glue/{name}")

    return write


GLUE: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "cola": (("source", "label", "mark", "sentence"), ("i", "label", "", "a")),
    "sst2": (("sentence", "label"), ("a", "label")),
    "mrpc": (("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"), ("label", "i", "i", "a", "b")),
    "qqp": (("id", "qid1", "qid2", "question1", "question2", "is_duplicate"), ("i", "i", "i", "a", "b", "label")),
    "stsb": (("index", "genre", "sentence1", "sentence2", "score"), ("i", "", "a", "b", "label")),
    "mnli": (("index", "sentence1", "sentence2", "label1", "gold_label"), ("i", "a", "b", "label", "label")),
    "qnli": (("index", "question", "sentence", "label"), ("i", "a", "b", "label")),
    "rte": (("index", "sentence1", "sentence2", "label"), ("i", "a", "b", "label")),
    "wnli": (("index", "sentence1", "sentence2", "label"), ("i", "a", "b", "label")),
}
"""Columns of each task's files, and what is in them: texts a and b, the label, a number, or nothing."""
FORMS: dict[str, Callable[[Path], Source]] = {
    "SlotGated, joint (ATIS, SNIPS)": lambda folder: _slotgated(folder, tags=True),
    "SlotGated, intents (HWU64)": lambda folder: _slotgated(folder, tags=False),
    "Tables (Banking77)": _banking,
    "Label and text in a line (TREC)": _trec,
    "MASSIVE": _massive,
    "SLURP": _slurp,
    "CLINC150": _clinc,
    "CoNLL columns (CoNLL-2003, WNUT17)": _conll,
    "GoEmotions": _goemotions,
    "TweetEval": _tweeteval,
    **{f"GLUE {name}": _glue(name) for name in GLUE},
}
