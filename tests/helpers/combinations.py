"""Parameters of tests that are too many to try all combinations of in every run."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")
SOAK = "FASTPRUNE_SOAK" in os.environ
"""`make soak` tries all of them."""


def pairwise(*axes: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Combinations, one value of each axis, in which every two values of two axes meet; in `make soak` all of them.

    Faults that two parameters make together show, and such as take three together may not.
    """
    everything = list(itertools.product(*(range(len(axis)) for axis in axes)))
    missing = {pair for places in everything for pair in _pairs(places)}
    chosen = []
    while missing:
        best = max(everything, key=lambda places: len(missing.intersection(_pairs(places))))
        chosen.append(best)
        missing.difference_update(_pairs(best))
    return [
        tuple(axis[at] for axis, at in zip(axes, places, strict=True)) for places in (everything if SOAK else chosen)
    ]


def _pairs(places: tuple[int, ...]) -> set[tuple[tuple[int, int], ...]]:
    return set(itertools.combinations(enumerate(places), 2))


def some(whole: T, wanted: T) -> T:
    """What is wanted in every run; in `make soak` the whole."""
    return whole if SOAK else wanted
