"""Damaged files of every form that is read: they are read, or refused in one sentence, and nothing else happens.

FASTPRUNE_FUZZ says how many of each form; `make soak` tries 500.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from helpers.damage import PIECES, attempt, cases, damaged, drawing
from helpers.public_forms import FORMS, texts

from fastprune.app.data import Source, load, load_rows
from fastprune.app.data.subset import write_subset
from fastprune.errors import UsageError

CASES = cases(3)
ROWS = [{"text": text, "label": f"class {i % 3}", "score": i / 7} for i, text in enumerate(texts())]


def _csv() -> bytes:
    written = io.StringIO()
    writer = csv.DictWriter(written, ROWS[0].keys())
    writer.writeheader()
    writer.writerows(ROWS)
    return written.getvalue().encode()


def _parquet(folder: Path) -> Source:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist(ROWS), folder / "rows.parquet")
    return Source(data=str(folder / "rows.parquet"))


def _saved(folder: Path) -> Source:
    import datasets

    datasets.disable_progress_bars()
    split = datasets.Dataset.from_list(ROWS).class_encode_column("label")
    datasets.DatasetDict(train=split, test=split).save_to_disk(folder / "saved")
    return Source(data=str(folder / "saved"))


def _file(name: str, content: bytes, **options: object) -> Callable[[Path], Source]:
    def write(folder: Path) -> Source:
        (folder / name).write_bytes(content)
        return Source(data=str(folder / name), **options)

    return write


def _zip(content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.csv", content)
    return packed.getvalue()


PACKINGS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zip": _zip}
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
SEVERAL = "".join(
    json.dumps(row | {"label": [row["label"], "class 1"] if i % 2 else [row["label"]]}) + "\n"
    for i, row in enumerate(ROWS)
)
MIXED = "jsonl of one label or several"
READS_MIXED = tuple(int(part) for part in version("datasets").split(".")[:2]) >= (4, 7)
ROLES = "".join(
    json.dumps(row | {"split": ("train", "train", "dev", "test")[i % 4]}) + "\n" for i, row in enumerate(ROWS)
)
KINDS = {
    **FORMS,
    "json": _file("rows.json", json.dumps(ROWS).encode()),
    "jsonl of several labels": _file("rows.jsonl", SEVERAL.encode()),
    MIXED: _file("rows.jsonl", LINES.replace(b'"class 0"', b'["class 0", "class 1"]')),
    "csv of a regression": _file("rows.csv", _csv(), text_column="text", label_column="score", task="regression"),
    "a column of splits": _file("rows.jsonl", ROLES.encode(), split_column="split"),
    "parquet": _parquet,
    "save_to_disk": _saved,
    **{f"csv{suffix}": _file(f"rows.csv{suffix}", pack(_csv())) for suffix, pack in PACKINGS.items()},
}


@pytest.mark.parametrize("name", KINDS)
def test_damaged_files(tmp_path, name):
    rng = drawing(name)
    (folder := tmp_path / "data").mkdir()
    source = KINDS[name](folder)
    if name == MIXED and not READS_MIXED:
        with pytest.raises(UsageError, match="label.* changed from array to string"):
            load(source)
        pytest.skip("datasets before 4.7 reads no column of texts and lists")
    load(source)  # undamaged
    whole = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    for _ in range(CASES):
        path = rng.choice(sorted(whole))
        path.write_bytes(damaged(whole[path], rng))
        there = set(tmp_path.rglob("*"))
        attempt(lambda: load(source))
        attempt(lambda: load_rows(replace(source, task=None), "classification"))
        assert set(tmp_path.rglob("*")) == there
        path.write_bytes(whole[path])


@pytest.mark.parametrize("suffix", PACKINGS)
def test_damaged_files_packed_well(tmp_path, suffix):
    rng = drawing(suffix)
    path = tmp_path / f"rows.csv{suffix}"
    for _ in range(CASES):
        path.write_bytes(PACKINGS[suffix](damaged(_csv(), rng)))
        attempt(lambda: load(Source(data=str(path))))


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".json", ".jsonl", ".parquet", ".csv.gz", ".txt", ".zip"])
def test_files_of_random_bytes(tmp_path, kind):
    rng = drawing(kind)
    path = tmp_path / f"train{kind}"
    for _ in range(CASES):
        path.write_bytes(
            b"".join(
                rng.choice([*PIECES, b"text,label\n", b"a,b\n", rng.randbytes(9)]) for _ in range(rng.randint(0, 9))
            )
        )
        attempt(lambda: load(Source(data=str(path))))


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv", "rows.json", "rows.jsonl", "rows.parquet", "rows.csv.gz"])
def test_rows_of_damaged_files_are_written_back(tmp_path, name):
    """As `fastprune select --data` does."""
    rng = drawing(f"rows of {name}")
    contents = {
        "rows.csv": _csv(),
        "rows.tsv": _csv().replace(b",", b"\t"),
        "rows.json": json.dumps(ROWS).encode(),
        "rows.jsonl": LINES,
        "rows.csv.gz": gzip.compress(_csv()),
    }
    path = tmp_path / name
    path.write_bytes(contents[name]) if name in contents else _parquet(tmp_path)
    whole, out = path.read_bytes(), tmp_path / f"out{path.suffix if name != 'rows.csv.gz' else '.csv'}"
    write_subset(path, [0, 3], out)
    for _ in range(CASES):
        out.unlink(missing_ok=True)
        path.write_bytes(damaged(whole, rng))
        attempt(lambda: write_subset(path, [0, 3], out))
        assert set(tmp_path.iterdir()) <= {path, out}
