"""Training dynamics: the logits of every example at every epoch, in the form of Dataset Cartography.

Source: the files of Swayamdipta et al. 2020 (arXiv 2009.10795), which other tools read, too.  A folder holds
``training_dynamics/dynamics_epoch_0.jsonl``, ``…_1.jsonl`` and so on.  A line is an example: ``{"guid": 17,
"logits_epoch_0": [1.25, -0.5], "gold": 0}``.  ``guid`` names the example, and ``gold`` is its class.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastprune.errors import UsageError, shown
from fastprune.files.atomic import sweep, write_atomic
from fastprune.scores import score
from fastprune.scores.metrics import TABLE

BatchLogits = tuple[Tensor, Tensor, Tensor]
"""Indices, logits and classes of a batch."""

FOLDER = "training_dynamics"
COLUMNS = ("confidence", *(name for name, metric in TABLE.items() if metric.per == "run"))
"""The columns that `read_dynamics` makes of an example's logits over the epochs."""


def epoch_file(folder: Path, epoch: int) -> Path:
    """Return the file of an epoch, numbered from 0."""
    return folder / FOLDER / f"dynamics_epoch_{epoch}.jsonl"


def count_epochs(folder: Path) -> int:
    """Return how many epochs without a gap are recorded in ``folder``."""
    epochs = 0
    while epoch_file(folder, epochs).is_file():
        epochs += 1
    return epochs


def epoch_files(folder: Path) -> list[Path]:
    """Return the files that hold the folder's epochs."""
    return [epoch_file(folder, epoch) for epoch in range(count_epochs(folder))]


def write_epoch(folder: Path, epoch: int, index: Tensor, logits: Tensor, gold: Tensor) -> None:
    """Write or replace the file of one epoch, which is complete or absent.

    Args:
        folder: gets the folder ``training_dynamics`` if it has none.
        epoch: from 0.
        index: (B,) positions in the data set, the guids.
        logits: (B, C).
        gold: (B,) classes.
    """
    path = epoch_file(folder, epoch)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Cartography takes the number of files in the folder for that of the epochs.
    sweep(path.parent, [path.name])
    # Ten digits, more than fp32 has.
    rows = zip(index.tolist(), logits.float().cpu().double().numpy().round(10).tolist(), gold.tolist(), strict=True)
    lines = (json.dumps({"guid": guid, f"logits_epoch_{epoch}": z, "gold": y}) + "\n" for guid, z, y in rows)

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(lines)

    write_atomic(path, write)


def read_dynamics(folder: Path) -> dict[str, np.ndarray]:
    """Return what the logits over the epochs say about each example.  An epoch without it does not count.

    Returns:
        Columns, sorted by index.  ``index`` is the guid where guids are the whole numbers below n, otherwise the place
            of its first line.  ``guid`` is as written.  ``confidence`` and ``variability`` are mean and deviation
            (``np.std``) of p(gold).  ``correctness`` counts the epochs in which it was right.  ``forgetting`` counts
            how often it was wrong after right, and is the number of epochs if it never was right.  ``aum`` is the mean
            of z_gold − max other z.

    Raises:
        UsageError: there is no such file, or a line is not of this form.

    Cost: reads every line.  n · C numbers of one epoch at a time are in memory.
    """
    epochs = count_epochs(folder)
    if epochs == 0:
        raise UsageError(f"{folder}: no {FOLDER}/dynamics_epoch_0.jsonl in it; give the folder that holds {FOLDER}/")
    places: dict[Any, int] = {}
    sums = _Sums()
    for epoch in range(epochs):
        guids, logits, gold = _read_epoch(epoch_file(folder, epoch), epoch)
        at = torch.tensor([places.setdefault(guid, len(places)) for guid in guids])
        if len(at.unique()) < len(at):
            raise UsageError(f"{epoch_file(folder, epoch)}: two lines have the same guid")
        sums.add(at, score(logits, gold, ("confidence", "margin", "correct")), len(places))
    columns = sums.columns(epochs)
    guid = list(places)
    numbered = all(isinstance(g, int) for g in guid) and sorted(guid) == list(range(len(guid)))
    index = np.array(guid if numbered else range(len(guid)), dtype=np.int64)
    order = index.argsort()
    return {"index": index[order], "guid": np.array(guid)[order], **{k: v[order] for k, v in columns.items()}}


class _Sums:
    """Running sums of each example, in double.  They grow, because the first epoch need not hold them all."""

    def __init__(self) -> None:
        self.table = torch.zeros(0, 7, dtype=torch.float64)

    def add(self, at: Tensor, scores: dict[str, Tensor], n: int) -> None:
        self.table = torch.cat([self.table, torch.zeros(n - len(self.table), 7, dtype=torch.float64)])
        visits, mean, squares, margin, right, forgotten, was_right = self.table[at].unbind(1)
        p, z, now = (scores[name].double() for name in ("confidence", "margin", "correct"))
        moved = mean + (p - mean) / (visits + 1)
        squares = squares + (p - mean) * (p - moved)
        forgotten = forgotten + was_right * (1 - now)
        self.table[at] = torch.stack([visits + 1, moved, squares, margin + z, right + now, forgotten, now], dim=1)

    def columns(self, epochs: int) -> dict[str, np.ndarray]:
        visits, mean, squares, margin, right, forgotten, _ = self.table.unbind(1)
        found = {
            "confidence": mean,
            "variability": (squares / visits).clamp_min(0).sqrt(),
            "correctness": right,
            "forgetting": torch.where(right > 0, forgotten, epochs),
            "aum": margin / visits,
        }
        return {name: found[name].float().numpy() for name in COLUMNS}


def _read_epoch(path: Path, epoch: int) -> tuple[list[Any], Tensor, Tensor]:
    guids, logits, gold = [], [], []
    for number, row in _rows(path):
        try:
            guids.append(row["guid"])
            hash(row["guid"])  # a list or an object names nothing: TypeError
            logits.append([float(z) for z in row[f"logits_epoch_{epoch}"]])
            gold.append(int(row["gold"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"{path}, line {number}: no line of training dynamics ({shown(error)})") from None
        same = len(logits[-1]) == len(logits[0]) and all(map(math.isfinite, logits[-1]))
        if not same or not 0 <= gold[-1] < len(logits[-1]):
            raise UsageError(f"{path}, line {number}: {len(logits[-1])} logits and the class {gold[-1]} do not fit")
    if not guids:
        raise UsageError(f"{path}: holds no example")
    return guids, torch.tensor(logits, dtype=torch.float32), torch.tensor(gold)


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield number, json.loads(line.decode("utf-8"))
            except (ValueError, RecursionError) as error:  # neither UTF-8 nor JSON, or nested too deeply
                what = getattr(error, "msg", None) or getattr(error, "reason", None) or error
                raise UsageError(f"{path}, line {number}: not JSON ({what})") from None
