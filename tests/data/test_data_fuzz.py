"""Damaged files of every form that is read: they are read, or refused in one sentence, and nothing else happens.

FASTPRUNE_FUZZ says how many of each form; `make soak` tries 500.
"""

import os
import random
from dataclasses import replace

import pytest
from public_forms import FORMS

from fastprune.data import Source, load, load_rows
from fastprune.errors import UsageError

CASES = int(os.environ.get("FASTPRUNE_FUZZ", "3"))
PIECES = [
    b"",
    b"\x00",
    b"\xff\xfe",
    b'"',
    b"\t\t\t",
    b",,,,",
    b"\n\n",
    b"\r",
    b"[" * 70,
    b"{" * 3,
    b"\\ud800",
    b'{"a": ',
    b"\xef\xbb\xbf",
    b"9" * 400,
    b"-1",
    b"nan",
    b"\x1b[31m",
    "\u2028".encode(),
    b"x" * 140_000,
]


def damaged(content: bytes, rng: random.Random) -> bytes:
    """One to three changes: a cut, a piece put in or over something, lines dropped or mixed, a byte changed."""
    for _ in range(rng.randint(1, 3)):
        at, to = sorted(rng.randrange(len(content) + 1) for _ in range(2))
        how = rng.randrange(6)
        if how == 0:
            content = content[:at]
        elif how == 1:
            content = content[:at] + rng.choice(PIECES) + content[at:]
        elif how == 2:
            content = content[:at] + rng.choice(PIECES) + content[min(to, at + 30) :]
        elif how == 3 and content:
            content = content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]
        else:
            lines = content.split(b"\n")
            rng.shuffle(lines) if how == 4 else lines.pop(rng.randrange(len(lines)))
            content = b"\n".join(lines)
    return content


def attempt(read) -> None:
    try:
        read()
    except UsageError as error:
        assert len(str(error)) < 2_000 and "\n" not in str(error), error


@pytest.mark.parametrize("name", FORMS)
def test_damaged_files_of_public_forms(tmp_path, name):
    rng = random.Random(f"{os.environ.get('FASTPRUNE_SEED', '0')} {name}")
    (folder := tmp_path / "data").mkdir()
    source = FORMS[name](folder)
    whole = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    for _ in range(CASES):
        path = rng.choice(sorted(whole))
        path.write_bytes(damaged(whole[path], rng))
        there = set(tmp_path.rglob("*"))
        attempt(lambda: load(source))
        attempt(lambda: load_rows(replace(source, task=None), "classification"))
        assert set(tmp_path.rglob("*")) == there
        path.write_bytes(whole[path])


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".json", ".jsonl", ".parquet", ".csv.gz", ".txt", ".zip"])
def test_files_of_random_bytes(tmp_path, kind):
    rng = random.Random(f"{os.environ.get('FASTPRUNE_SEED', '0')} {kind}")
    path = tmp_path / f"train{kind}"
    for _ in range(CASES):
        path.write_bytes(
            b"".join(
                rng.choice([*PIECES, b"text,label\n", b"a,b\n", rng.randbytes(9)]) for _ in range(rng.randint(0, 9))
            )
        )
        attempt(lambda: load(Source(data=str(path))))
