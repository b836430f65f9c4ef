"""Rows in which many classes hold the same finite value, of any size: masks, padded vocabularies, saturated heads.

A kernel that sums relative to a guess, or scales by log2(e) before it subtracts, shows here what its rounding
does. The rows are drawn by hypothesis, in every dtype and with values from 1 to the dtype's largest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

# The classes of one segment, in the tests that make segments this short.
SEGMENT = 1024


@dataclass(frozen=True)
class Plateau:
    """Classes [start, stop) of a row hold `value`; so does the label, if `with_label`."""

    start: int
    stop: int
    value: float
    with_label: bool


@st.composite
def values(draw: st.DrawFn, dtype: torch.dtype) -> float:
    """A finite value of magnitude 1 to the dtype's largest, evenly over the exponents."""
    largest = torch.finfo(dtype).max
    magnitude = 2.0 ** draw(st.floats(0, 1)) * 2.0 ** draw(st.integers(0, int(math.log2(largest)) - 1))
    magnitude = draw(st.sampled_from([magnitude, magnitude, magnitude, largest, 1e4, 65536.0]))
    return min(magnitude, largest) * draw(st.sampled_from([-1.0, 1.0]))


@st.composite
def plateaus(draw: st.DrawFn, classes: int, dtype: torch.dtype) -> list[Plateau]:
    """Whole segments, or the whole row, each with a value of its own; the label in it or not."""
    kind = draw(st.sampled_from(["row", "row but the label", "segments", "any stretch"]))
    if kind.startswith("row"):
        return [Plateau(0, classes, draw(values(dtype)), kind == "row")]
    if kind == "any stretch":
        start = draw(st.integers(0, classes - 1))
        return [Plateau(start, draw(st.integers(start, classes)), draw(values(dtype)), draw(st.booleans()))]
    return [
        Plateau(start, min(start + SEGMENT, classes), draw(values(dtype)), draw(st.booleans()))
        for start in range(0, classes, SEGMENT)
        if draw(st.booleans())
    ]


@st.composite
def rows(draw: st.DrawFn, dtype: torch.dtype, longest: int = 3 * SEGMENT + 200) -> tuple[Tensor, Tensor]:
    """Logits (6, C) and labels: ordinary rows with plateaus in them."""
    classes = draw(st.one_of(st.integers(2, 40), st.integers(SEGMENT, longest)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    logits = torch.randn(6, classes, generator=generator, dtype=torch.float64) * draw(st.sampled_from([0.1, 3.0]))
    labels = torch.randint(classes, (6,), generator=generator)
    for row, label in zip(logits, labels, strict=True):
        before = row[label].clone()
        for plateau in draw(plateaus(classes, dtype)):
            inside = plateau.start <= label < plateau.stop
            row[plateau.start : plateau.stop] = plateau.value
            if inside and not plateau.with_label:
                row[label] = before
    return logits.to(dtype), labels
