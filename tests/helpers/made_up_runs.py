"""Evaluations, scores and run folders that no training was needed for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fastprune.app.data import Split, TextData, build
from fastprune.app.report import RunFolder
from fastprune.app.report.runs import Runs
from fastprune.app.report.summary import make_summary


def metric(run, seed, epoch, seconds, exact, **more):
    return {
        "run": run,
        "seed": seed,
        "epoch": epoch,
        "kept": 1.0,
        "seconds": seconds,
        "split": "test",
        "train_loss": 2.0 / epoch,
        "intent_accuracy": exact + 0.01,
        "slot_f1": exact,
        "exact_match": exact,
        **more,
    }


METRICS = [
    metric(run, seed, epoch, epoch * (10.0 if run == "full" else 6.0) + seed, 0.5 + epoch / 10)
    for run in ("full", "el2n 0.5", "static 0.5")
    for seed in (0, 1)
    for epoch in (1, 2, 3)
]


def pruned(run, seed, epoch, cycle, churn):
    return metric(run, seed, epoch, 1.0, 0.5, phase="pruned", cycle=cycle, churn=churn)


def runs_of(metrics, scores=None, recorded=None, config=None):
    """What is drawn, without a folder."""
    return Runs(metrics, make_summary(metrics, config or {"data": "trips", "model": "tiny"}), scores, recorded)


def scores(cycles, n=50):
    """cycles: (run, seed, epoch, share kept)."""
    rng = np.random.default_rng(0)
    parts = []
    for run, seed, epoch, share in cycles:
        values = rng.gamma(0.5, 0.2, n).astype(np.float32)
        kept = np.argsort(np.argsort(-values)) < share * n
        parts.append((np.array([run] * n, object), np.full(n, seed), np.full(n, epoch), np.arange(n), values, kept))
    names = ("run", "seed", "epoch", "index", "score", "kept")
    return {name: np.concatenate(column) for name, column in zip(names, zip(*parts, strict=True), strict=True)}


def recorded(run, seed, index):
    n = len(index)
    return {
        "run": np.array([run] * n, object),
        "seed": np.full(n, seed),
        "index": np.array(index),
        "confidence": np.linspace(0.2, 0.9, n),
        "variability": np.linspace(0.1, 0.3, n),
    }


def thirty_texts() -> TextData:
    """Texts of examples. Number 29 would break a page that did not escape it."""
    texts = [*(f"book flight {i}" for i in range(29)), "play | some <b> jazz"]
    train = Split(texts, ["BookFlight"] * 29 + ["PlayMusic"])
    return build("texts", train, {"test": Split(["book it"], ["BookFlight"])})


def write_run(path: Path, **config) -> Path:
    """A folder of two pruned runs over `thirty_texts`, of which number 29 is the most useful."""
    folder = RunFolder.create(path)
    folder.write_config({"data": "trips", "model": "tiny", **config})
    folder.write_metrics([*METRICS, pruned("el2n 0.5", 0, 2, 2, 0.5)])
    table = scores([("el2n 0.5", 0, epoch, 0.5) for epoch in (1, 2)], n=30)
    table["score"][[29, 59]] = 9.0
    table["kept"][[29, 59]] = True
    folder.write_scores(table)
    return folder.path
