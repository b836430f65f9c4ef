"""The settings of each task where the user says nothing."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass

from fastprune.app.data.types import CAUSAL_LM, Kind


@dataclass(frozen=True)
class Usual:
    """What a task is trained and scored with by default.

    ``lr`` is for a model of the user's, ``lr_lora`` for adapters on it, and ``lr_tiny`` for a model made of the data.
    """

    epochs: int = 6
    lr: float = 3e-4
    lr_lora: float = 3e-4
    lr_tiny: float = 3e-4
    batch_size: int = 32
    score_batch_size: int = 128
    max_length: int = 128
    smoothing: str = "latest"


USUAL: Mapping[Kind, Usual] = {
    "joint": Usual(smoothing="ema"),
    CAUSAL_LM: Usual(3, lr=2e-5, lr_lora=2e-4, lr_tiny=3e-3, batch_size=8, score_batch_size=8, max_length=1024),
}
"""The tasks that differ from the others."""


def usual(kind: str | None) -> Usual:
    """Return the settings of a task."""
    return next((found for name, found in USUAL.items() if name == kind), Usual())


def fill_in(options: argparse.Namespace) -> None:
    """Set what was not given of the settings of a training to what is usual for the task."""
    task = usual(options.task)
    lr = task.lr_tiny if options.model is None else task.lr if options.lora is None else task.lr_lora
    found = {"epochs": task.epochs, "lr": lr, "batch_size": task.batch_size, "max_length": task.max_length}
    for name, value in found.items():
        if getattr(options, name) is None:
            setattr(options, name, value)


def said(name: str) -> str:
    """Return the default of a setting as a help text shows it.

    >>> said("epochs")
    '6, causal-lm 3'
    """
    first, language = getattr(Usual(), name), getattr(USUAL[CAUSAL_LM], name)
    return f"{first:g}, {CAUSAL_LM} {language:g}"
