"""The main job: make every run of a comparison and write the run folder."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fastprune.data import TextData
from fastprune.data.types import fingerprint
from fastprune.finetune.checkpoint import load_checkpoint, remove_checkpoint, save_checkpoint
from fastprune.finetune.encode import EncodedSplit
from fastprune.finetune.encoder import load_encoder, longest_input
from fastprune.finetune.evaluate import evaluate
from fastprune.finetune.model import JointModel
from fastprune.finetune.progress import LiveProgress
from fastprune.finetune.spec import RunSpec, Training
from fastprune.finetune.train import Run, RunResult, continue_run, start_run, warm_up
from fastprune.report import Report, RunFolder, last_epoch_rows, summarise, write_report

Row = dict[str, Any]


def finetune(
    data: TextData,
    model: str | None,
    specs: Sequence[RunSpec],
    training: Training,
    out: Path,
    *,
    resume: bool = False,
) -> Report:
    """Make the runs one after the other and leave a run folder with report and the last model.

    Args:
        data: what to train and test on; the test split is evaluated at every epoch's end.
        model: a folder, a hub id, or None for the packaged MiniLM.
        specs: the runs, see `plan_runs`.
        out: the run folder; must be new or empty unless ``resume``.
        resume: go on from the folder's checkpoint.

    Raises:
        UsageError: the model cannot be loaded, the folder is in use, or the checkpoint is another run's.
    """
    encoder, tokenizer, model_name = load_encoder(model)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    initial = {name: value.clone() for name, value in encoder.state_dict().items()}
    length = longest_input(encoder, tokenizer, training.max_length)
    train = EncodedSplit(data, data.train, tokenizer, length)
    test = EncodedSplit(data, data.test, tokenizer, length)
    if train.truncated or test.truncated:
        texts = f"{train.truncated} training and {test.truncated} test texts"
        print(f"note: {texts} are longer than {length} tokens and were cut; see --max-length", file=sys.stderr)
    pad = tokenizer.pad_token_id
    identity = data_identity(data)

    def make_model() -> nn.Module:
        encoder.load_state_dict(initial)
        n_slots = None if data.slot_names is None else len(data.slot_names)
        return JointModel(encoder, len(data.intent_names), n_slots).to(device)

    def metrics(trained: nn.Module) -> dict[str, float]:
        return evaluate(trained, test, data, pad, bf16=training.bf16)

    options = {
        "model": model_name,
        **asdict(training),
        "runs": [asdict(spec) for spec in specs],
    }
    done: list[RunResult] = []
    state: Row | None = None
    if resume:
        saved = load_checkpoint(out, options, identity)
        done = [RunResult(RunSpec(**r["spec"]), r["rows"], r["cycles"]) for r in saved["done"]]
        state = saved["run"]
        folder = RunFolder.open(out)
    else:
        folder = RunFolder.create(out)
        folder.write_config({**options, "data": data.name, "fingerprint": identity, **environment(data)})
    print(f"run folder: {out}", file=sys.stderr)

    def checkpoint(run: Run) -> None:
        folder.write_metrics(row for result in [*done, run.result] for row in result.rows)
        save_checkpoint(
            folder.path,
            {
                "fingerprint": identity,
                "options": options,
                "done": [asdict(result) for result in done],
                "run": run.state_dict(),
            },
        )

    warm_up(make_model(), train, training, pad)
    with LiveProgress(len(specs), len(done)) as progress:
        for spec in specs[len(done) :]:
            progress.run(spec)
            run = start_run(spec, training, train, data.fingerprint, make_model)
            if state is not None:
                run.load_state_dict(state)
                state = None
            done.append(continue_run(run, training, train, metrics, pad, progress, checkpoint))
    save_model(folder.path / "model", run.model, tokenizer, data)
    return finish(folder, data, model_name, done)


def finish(folder: RunFolder, data: TextData, model_name: str, results: Sequence[RunResult]) -> Report:
    """Write scores, summary and picture; the checkpoint is no longer needed then."""
    rows = [row for result in results for row in result.rows]
    folder.write_metrics(rows)
    folder.write_scores(score_columns([cycle for result in results for cycle in result.cycles]))
    summary = {"data": data.name, "model": model_name, "rows": summarise(last_epoch_rows(rows))}
    folder.write_summary(summary)
    report = write_report(folder.path)
    remove_checkpoint(folder.path)
    return report


def data_identity(data: TextData) -> str:
    """What a checkpoint must agree with: the training and the test examples, sha256 in hex."""
    return hashlib.sha256(f"{data.fingerprint}{fingerprint(data.test)}".encode()).hexdigest()


def score_columns(cycles: Sequence[Row]) -> dict[str, Any]:
    """The cycles' scores as the columns of scores.parquet, one row per cycle and example."""

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


def save_model(folder: Path, model: nn.Module, tokenizer: Any, data: TextData) -> None:
    """The last run's encoder and tokenizer (Hugging Face form), its heads and its label names."""
    model.encoder.save_pretrained(folder)  # type: ignore[operator, union-attr]
    tokenizer.save_pretrained(folder)
    heads = {k: v.cpu() for k, v in model.state_dict().items() if not k.startswith("encoder.")}
    labels = {"intent_names": data.intent_names, "slot_names": data.slot_names}
    torch.save({"heads": heads, **labels}, folder / "heads.pt")


def environment(data: TextData) -> Row:
    """What a reader needs to judge the numbers."""
    return {
        "train_examples": len(data.train),
        "test_examples": len(data.test),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }
