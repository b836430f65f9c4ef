"""What a run did: its record, as a file and in comparisons."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from golden.cases import BREAK, INSIDE

DATA = Path(__file__).with_name("data")
TOLERANCE = 1e-5
"""The tolerance of the weights, relative to the largest. Processors differ in the last bits."""

Recorded = dict[str, Any]


@dataclass(frozen=True)
class Batch:
    """One batch of training: its user epoch, the kept set then, and the examples that each rank read."""

    epoch: int
    kept: tuple[int, ...]
    read: tuple[tuple[int, ...], ...]


@dataclass
class Record:
    """A run, or the rest of one that was interrupted."""

    batches: list[Batch] = field(default_factory=list)
    optimizer_steps: int = 0
    scored: int = 0
    weights: list[float] = field(default_factory=list)

    def add(self, epoch: int, kept: Tensor, index: Tensor) -> None:
        """Note a batch of this process."""
        self.batches.append(Batch(epoch, tuple(kept.tolist()), (tuple(index.tolist()),)))

    def as_data(self) -> Recorded:
        """Plain data with a line of text for each epoch, so that a difference can be read."""
        return {
            "optimizer_steps": self.optimizer_steps,
            "scored": self.scored,
            "epochs": by_epoch(self.batches),
            "weights": " ".join(f"{number:.9g}" for number in self.weights),  # 9 digits hold every fp32 number
        }


def by_epoch(batches: Sequence[Batch]) -> list[dict[str, Any]]:
    """The kept set of each epoch and what was read in it; batches end with a comma, ranks' shares with a bar."""
    epochs = []
    for (epoch, kept), group in groupby(batches, key=lambda batch: (batch.epoch, batch.kept)):
        read = ", ".join(" | ".join(map(_text, batch.read)) for batch in group)
        epochs.append({"epoch": epoch, "kept": len(kept), "of": _text(kept), "read": read})
    return epochs


def batches_of(recorded: Recorded) -> list[Batch]:
    """The inverse of `by_epoch`: the batches."""
    return [
        Batch(epoch["epoch"], _numbers(epoch["of"]), tuple(map(_numbers, batch.split(" | "))))
        for epoch in recorded["epochs"]
        for batch in epoch["read"].split(", ")
    ]


def record_of(recorded: Recorded) -> Record:
    """The inverse of `Record.as_data`: the record."""
    return Record(batches_of(recorded), recorded["optimizer_steps"], recorded["scored"], weights_of(recorded))


def weights_of(recorded: Recorded) -> list[float]:
    """The weights at the end."""
    return [float(number) for number in recorded["weights"].split()]


def batches_until(recorded: Recorded, place: str) -> int:
    """How many batches of a recorded run are read where it is interrupted."""
    epochs = [batch.epoch for batch in batches_of(recorded)]
    return epochs.index(BREAK) + INSIDE if place == "inside" else epochs.index(BREAK + 1)


def check(found: Record, recorded: Recorded, after: int = 0) -> None:
    """Fail unless the run equals the recorded one, or its rest after ``after`` batches.

    How many examples a rest scores is not looked at: a resumed run tries a batch again before it goes on.
    """
    assert by_epoch(found.batches) == by_epoch(batches_of(recorded)[after:])
    assert found.optimizer_steps == recorded["optimizer_steps"]
    assert after or found.scored == recorded["scored"]
    weights = weights_of(recorded)
    assert found.weights == pytest.approx(weights, rel=0, abs=TOLERANCE * max(map(abs, weights)))


def check_rest(found: Record, whole: Record, after: int) -> None:
    """Fail unless a resumed run is to the last bit the rest of the uninterrupted one of this process."""
    assert by_epoch(found.batches) == by_epoch(whole.batches[after:])
    assert found.optimizer_steps == whole.optimizer_steps
    assert found.weights == whole.weights


def read(loop: str) -> dict[str, Recorded]:
    """The records of a loop by case; empty before the first are written."""
    path = DATA / f"{loop}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def write(loop: str, records: dict[str, Recorded]) -> None:
    """Write the records of a loop."""
    (DATA / f"{loop}.json").write_text(json.dumps(records, indent=1) + "\n")


def state_file(loop: str, case: str, place: str) -> Path:
    """Where the state of an interrupted run is kept."""
    return DATA / f"{loop}-{case}-{place}.pt"


def load_state(loop: str, case: str, place: str) -> Any:
    """The recorded state."""
    return torch.load(state_file(loop, case, place), weights_only=True)


def _text(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split()))
