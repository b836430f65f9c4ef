"""Damage to files, for tests of what is read from elsewhere."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

from fastprune.errors import UsageError

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


def cases(usual: int) -> int:
    """How many of each kind are tried: FASTPRUNE_FUZZ, which `make soak` sets to 500."""
    return int(os.environ.get("FASTPRUNE_FUZZ", usual))


def drawing(name: str) -> random.Random:
    """Random numbers of a test; FASTPRUNE_SEED draws others."""
    return random.Random(f"{os.environ.get('FASTPRUNE_SEED', '0')} {name}")


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


def attempt(read: Callable[[], Any]) -> None:
    """It is read, or refused in one sentence."""
    try:
        read()
    except UsageError as error:
        assert len(str(error)) < 2_000 and "\n" not in str(error), error
