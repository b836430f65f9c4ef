"""Results of runs as the tables of the run folder, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastprune.app.finetune.record import RunResult
from fastprune.app.finetune.spec import RunSpec
from fastprune.app.report import RunFolder
from fastprune.app.report.json_types import Row


def score_columns(cycles: Sequence[Row]) -> dict[str, Any]:
    """Return the cycles' scores as the columns of scores.parquet, one row per cycle and example."""

    def spread(key: str, dtype: Any) -> np.ndarray:
        return np.repeat(np.array([c[key] for c in cycles], dtype=dtype), [len(c["score"]) for c in cycles])

    def joined(key: str, dtype: Any) -> np.ndarray:
        return np.concatenate([c[key].numpy() for c in cycles] or [np.empty(0)]).astype(dtype)

    return {
        "run": spread("run", object),
        "seed": spread("seed", np.int64),
        "epoch": spread("epoch", np.int32),
        "index": np.concatenate([np.arange(len(c["score"])) for c in cycles] or [np.empty(0, np.int64)]),
        "score": joined("score", np.float32),
        "kept": joined("kept", bool),
    }


def map_columns(maps: Sequence[tuple[RunSpec, dict[str, Tensor]]]) -> dict[str, Any]:
    """Return the data maps of several runs as the columns of data_map.parquet."""
    sizes = [len(columns["index"]) for _, columns in maps]
    joined = {name: np.concatenate([columns[name].numpy() for _, columns in maps]) for name in maps[0][1]}
    return {
        "run": np.repeat(np.array([spec.name for spec, _ in maps], dtype=object), sizes),
        "seed": np.repeat(np.array([spec.seed for spec, _ in maps]), sizes),
        **joined,
    }


def results_of(folder: RunFolder, specs: Sequence[RunSpec]) -> dict[int, RunResult]:
    """Return the results of those of ``specs`` that a finished run folder holds, by their number."""
    rows, scores, maps = folder.read_metrics(), folder.read_scores() or {}, folder.read_data_map() or {}
    found = {}
    for number, spec in enumerate(specs):
        own = [row for row in rows if (row["run"], row["seed"]) == (spec.name, spec.seed)]
        if not own:
            continue
        cycles = [
            {"run": spec.name, "seed": spec.seed, "epoch": epoch, "score": part["score"], "kept": part["kept"]}
            for epoch, part in _by_epoch(_of_run(scores, spec))
        ]
        columns = {name: values for name, values in _of_run(maps, spec).items() if name not in ("run", "seed")}
        data_map = columns if columns and len(columns["index"]) else None
        found[number] = RunResult(spec, own, cycles, data_map)
    return found


def _of_run(columns: Mapping[str, np.ndarray], spec: RunSpec) -> dict[str, Any]:
    if not columns:
        return {}
    own = (columns["run"] == spec.name) & (columns["seed"] == spec.seed)
    return {name: v[own] if name == "run" else torch.from_numpy(v[own].copy()) for name, v in columns.items()}


def _by_epoch(columns: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    for epoch in columns["epoch"].unique().tolist() if columns else ():
        own = columns["epoch"] == epoch
        yield epoch, {name: columns[name][own] for name in ("score", "kept")}
