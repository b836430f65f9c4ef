"""What a data set is like, as numbers: pure functions of its training texts.  No result of a run is used."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.evidence.tokens import Prepared
from fastprune.files.atomic import write_atomic

FILE = "properties.json"
BUCKETS = 4096
NEAR = 0.8

NAMES = {
    "examples": "examples",
    "classes": "classes",
    "largest_class": "largest class %",
    "tokens": "tokens an example",
    "spread": "spread of lengths",
    "near": "near a neighbour %",
}
"""What each property is called in tables."""


def properties(prepared: Prepared) -> dict[str, float]:
    """The properties of the training split.

    ``examples``, ``classes``, the share of the ``largest_class``, the mean number of ``tokens``, the ``spread`` of
    lengths (deviation over mean), and the share of examples that are ``near`` another one (`near_share`).
    """
    train = prepared.splits["train"]
    counts = Counter(train.gold_intents)
    lengths = train.lengths.double()
    return {
        "examples": len(train),
        "classes": len(counts),
        "largest_class": max(counts.values()) / len(train),
        "tokens": float(lengths.mean()),
        "spread": float(lengths.std(correction=0) / lengths.mean()),
        "near": near_share(train.ids, train.lengths),
    }


def near_share(ids: Tensor, lengths: Tensor, near: float = NEAR) -> float:
    """The share of texts that have another text whose tokens are alike: a cosine of at least ``near``.

    A text is the vector of its tokens' counts, each times log(N / number of texts with the token).  Tokens share
    `BUCKETS` places by their number.

    Args:
        ids: (N, L) padded token ids.
        lengths: (N,) the numbers of tokens.

    Cost: N² · `BUCKETS` multiplications.
    """
    rows, width = ids.shape
    real = torch.arange(width) < lengths[:, None]
    counts = torch.zeros(rows, BUCKETS)
    counts.scatter_add_(1, ids.long() % BUCKETS, real.float())
    rarity = (rows / (counts > 0).sum(dim=0).clamp_min(1)).log()
    vectors = torch.nn.functional.normalize(counts * rarity, dim=1)
    found = 0
    for start in range(0, rows, 1024):
        part = vectors[start : start + 1024]
        alike = part @ vectors.T
        alike[torch.arange(len(part)), torch.arange(start, start + len(part))] = 0.0  # a text and itself
        found += int((alike.amax(dim=1) >= near).sum())
    return found / rows


def write_properties(found: Mapping[str, Mapping[str, float]], folder: Path) -> Path:
    """Write those of all data sets, or leave the old file if that fails. Returns its path."""
    rounded = {data: {name: round(value, 4) for name, value in one.items()} for data, one in found.items()}
    path = folder / FILE
    write_atomic(path, lambda temporary: temporary.write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8"))
    return path


def read_properties(folder: Path) -> dict[str, dict[str, float]]:
    """By data set. Nothing if the file is missing."""
    path = folder / FILE
    found: dict[str, dict[str, float]] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def shown(name: str, value: float) -> str:
    """A property as a cell of a table."""
    if name in ("largest_class", "near"):
        return f"{100 * value:.0f}"
    return f"{value:.0f}" if name in ("examples", "classes") else f"{value:.2g}" if name == "spread" else f"{value:.1f}"


def names_of(found: Mapping[str, Mapping[str, float]]) -> Sequence[str]:
    """The properties that every data set has, in the order of `NAMES`."""
    return [name for name in NAMES if all(name in one for one in found.values())]
