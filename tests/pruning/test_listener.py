"""A listener stands around scoring passes and selections, also where they fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from fastprune.pruning import DynamicPruner, Listener, Phase


class Diary(Listener):
    """Notes what begins and what ends."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextmanager
    def scoring(self, examples: int) -> Iterator[None]:
        with self._around(f"scoring {examples}"):
            yield

    @contextmanager
    def choosing(self, phase: Phase) -> Iterator[None]:
        with self._around(f"choosing {phase.size} of phase {phase.index}"):
            yield

    @contextmanager
    def _around(self, what: str) -> Iterator[None]:
        self.lines.append(f"begin {what}")
        try:
            yield
        finally:
            self.lines.append(f"end {what}")


def listened(method: str) -> tuple[DynamicPruner, Diary]:
    pruner, diary = DynamicPruner(10, keep_fraction=0.5, method=method), Diary()
    pruner.listener = diary
    return pruner, diary


def test_it_is_told_of_a_pass_and_of_a_selection() -> None:
    pruner, diary = listened("el2n")
    for _ in pruner.epochs(2):
        if pruner.wants_scores:
            pruner.rescore(lambda index: index.float())
    assert diary.lines == [
        "begin scoring 10",
        "end scoring 10",
        "begin choosing 5 of phase 1",
        "end choosing 5 of phase 1",
    ]


def test_it_is_left_where_the_pass_fails() -> None:
    pruner, diary = listened("el2n")
    next(pruner.epochs(2))
    with pytest.raises(ZeroDivisionError):
        pruner.rescore(lambda index: torch.tensor([1 / 0]))
    assert diary.lines == ["begin scoring 10", "end scoring 10"]


def test_a_run_without_passes_tells_of_selections_alone() -> None:
    pruner, diary = listened("full")
    assert list(pruner.epochs(3)) == [0, 1, 2]
    assert diary.lines == [f"{verb} choosing 10 of phase {phase}" for phase in (1, 2) for verb in ("begin", "end")]
