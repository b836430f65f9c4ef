"""Runs on the tiny data set."""

from __future__ import annotations

from typing import Any

from benchmarks.evidence.encoder import make_model
from benchmarks.evidence.loop import Training
from benchmarks.evidence.spec import Run
from benchmarks.evidence.tokens import Prepared


def tiny_run(method: str, **arguments: Any) -> Run:
    """A short run in fp32 with small batches."""
    told = {"data": "atis", "epochs": 3, "lr": 3e-3, "layers": (0, 1), "batch_size": 16, "precision": "fp32"}
    return Run(**{**told, "method": method, **arguments})


def training(run: Run, prepared: Prepared, encoder: Any) -> Training:
    """The run at its beginning."""
    return Training(run, prepared, make_model(encoder[0], run.layers, prepared, run.seed))
