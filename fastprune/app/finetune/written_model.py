"""Writes ``model/`` of a run folder: the model with its tokenizer, and what it predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastprune.app.finetune.encode import EncodedSplit
from fastprune.app.finetune.evaluate import LongestFirst, by_class
from fastprune.app.finetune.predict import predict
from fastprune.app.finetune.ranks import first
from fastprune.app.finetune.tables import prediction_columns, write_table
from fastprune.app.finetune.train import Job, RunTrainer
from fastprune.app.report import RunFolder
from fastprune.app.report.folder import MODEL
from fastprune.files.atomic import write_folder_atomic

PREDICTIONS = "predictions"


def write_model(folder: RunFolder, run: RunTrainer, tokenizer: Any, job: Job, length: int) -> None:
    """Write the model with its tokenizer, what it gets right of each class, and its predictions.

    Predictions are those of unlabelled splits.  All processes predict, and the first writes.
    """
    data = job.data
    judged: Any = job.splits[data.reported[0]]
    deciding = by_class(predict(run, judged), data.test)
    tables = {}
    for name, split in data.unlabelled.items():
        encoded = LongestFirst(data, EncodedSplit(data, split, tokenizer, length))
        tables[name] = prediction_columns(split, predict(run, encoded))
    if not first():
        return

    model: Any = run.model

    def save(temporary: Path) -> None:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)

    write_folder_atomic(folder.path / MODEL, save)
    if deciding is not None:
        folder.write_classes(deciding)
    for name, columns in tables.items():
        file = f"{PREDICTIONS}.tsv" if len(tables) == 1 else f"{PREDICTIONS}_{name}.tsv"
        write_table(folder.path / file, columns)
