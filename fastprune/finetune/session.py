"""The main job: make every run of a comparison and write the run folder."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fastprune.atomic import sweep, write_folder_atomic
from fastprune.data import TextData, identity_of
from fastprune.dynamics import count_epochs
from fastprune.errors import UsageError
from fastprune.finetune.checkpoint import has_checkpoint, load_checkpoint, remove_checkpoint, save_checkpoint
from fastprune.finetune.encode import EncodedSplit
from fastprune.finetune.encoder import load_encoder, longest_input
from fastprune.finetune.evaluate import evaluate
from fastprune.finetune.finetuned import HEADS, LABELS
from fastprune.finetune.model import JointModel
from fastprune.finetune.progress import LiveProgress
from fastprune.finetune.spec import RunSpec, Training
from fastprune.finetune.train import Run, RunResult, continue_run, start_run, warm_up
from fastprune.finetune.trust import NONE, Trust
from fastprune.lock import LOCK
from fastprune.methods.tdds import MOST_CLASSES
from fastprune.pruning import get_method
from fastprune.report import Report, RunFolder, last_epoch_rows, summarise, write_report
from fastprune.report.folder import FILES, SUMMARY, is_ours, write_json

MODEL = "model"
Row = dict[str, Any]


def finetune(
    data: TextData,
    model: str | None,
    specs: Sequence[RunSpec],
    training: Training,
    out: Path,
    *,
    resume: bool = False,
    dynamics: Path | None = None,
    source: Mapping[str, Any] | None = None,
    trust: Trust = NONE,
) -> Report:
    """Make the runs one after the other and leave a run folder with report and the last model.

    Args:
        data: what to train and test on; the test split is evaluated at every epoch's end.
        model: a folder, a hub id, or None for the packaged MiniLM.
        specs: the runs, see `plan_runs`.
        out: the run folder; must be new or empty unless ``resume``.
        resume: go on from the folder's checkpoint, or start again if it was killed before the first.
        dynamics: folder that gets each run's training dynamics, see `dynamics_folder` and `fastprune.dynamics`.
        source: how ``data`` was loaded, for the record: arguments of `fastprune.data.load` and max_train.
        trust: what may be executed of the model.

    Raises:
        UsageError: the model cannot be loaded, a folder is in use, or the checkpoint is another run's.
    """
    going_on = resume and _can_go_on(out)
    if dynamics is not None and not resume:
        _refuse_old_dynamics(dynamics, specs)
    check_classes(specs, data)
    encoder, tokenizer, model_name = load_encoder(model, trust)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    initial = {name: value.clone() for name, value in encoder.state_dict().items()}
    length = longest_input(encoder, tokenizer, training.max_length)
    train = EncodedSplit(data, data.train, tokenizer, length)
    test = EncodedSplit(data, data.test, tokenizer, length)
    if train.truncated or test.truncated:
        texts = f"{train.truncated} training and {test.truncated} test texts"
        print(f"note: {texts} are longer than {length} tokens and were cut; see --max-length", file=sys.stderr)
    pad = tokenizer.pad_token_id
    identity = identity_of(data)

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
        # A run whose first epochs were not recorded could not be read.
        "dynamics": None if dynamics is None else str(dynamics),
    }
    done: list[RunResult] = []
    state: Row | None = None
    if going_on:
        saved = load_checkpoint(out, options, identity)
        done = [RunResult(RunSpec(**r["spec"]), r["rows"], r["cycles"], r["data_map"]) for r in saved["done"]]
        state = saved["run"]
        folder = RunFolder.open(out)
    else:
        folder = RunFolder.create(out)
        remove_checkpoint(out)
        config = {**options, "data": data.name, "fingerprint": identity, **environment(data)}
        folder.write_config({**config, "data_source": source})
    sweep(folder.path, (*FILES, MODEL))
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
            recorded = None if dynamics is None else dynamics_folder(dynamics, spec)
            done.append(continue_run(run, training, train, metrics, pad, progress, checkpoint, recorded))
    write_folder_atomic(folder.path / MODEL, lambda temporary: save_model(temporary, run.model, tokenizer, data))
    return finish(folder, data, model_name, done)


def finish(folder: RunFolder, data: TextData, model_name: str, results: Sequence[RunResult]) -> Report:
    """Write scores, summary and picture; the checkpoint is no longer needed then, and goes last."""
    rows = [row for result in results for row in result.rows]
    folder.write_metrics(rows)
    folder.write_scores(score_columns([cycle for result in results for cycle in result.cycles]))
    maps = [(result.spec, result.data_map) for result in results if result.data_map is not None]
    if maps:
        folder.write_data_map(map_columns(maps))
    summary = {"data": data.name, "model": model_name, "rows": summarise(last_epoch_rows(rows))}
    folder.write_summary(summary)
    report = write_report(folder.path, data=data)
    remove_checkpoint(folder.path)
    return report


def dynamics_folder(base: Path, spec: RunSpec) -> Path:
    """Where a run's training dynamics go: a folder of its own, named after run and seed."""
    return base / re.sub(r"[^\w.=-]+", "-", f"{spec.name} seed {spec.seed}")


def check_classes(specs: Sequence[RunSpec], data: TextData) -> None:
    """Refuse methods that keep a number for each class where classes are too many."""
    for spec in specs:
        if "probabilities" in get_method(spec.method).reads and len(data.intent_names) > MOST_CLASSES:
            raise UsageError(
                f"--method {spec.method} keeps a number for each class of an example and takes {MOST_CLASSES} classes "
                f"at most, the data have {len(data.intent_names)}; choose another, for instance dyn-unc"
            )


def _can_go_on(out: Path) -> bool:
    """Whether there is a checkpoint; without one a killed run starts again, and any other folder is refused."""
    if set(out.iterdir()) - {out / LOCK} and not is_ours(out):
        raise UsageError(f"--resume: {out} is no run folder of fastprune, so nothing in it is touched; see --out")
    if has_checkpoint(out):
        return True
    if (out / SUMMARY).is_file():
        raise UsageError(f"--resume: the run in {out} has ended; `fastprune report {out}` shows it")
    print(f"note: {out} holds no checkpoint yet; starting from the beginning", file=sys.stderr)
    return False


def _refuse_old_dynamics(base: Path, specs: Sequence[RunSpec]) -> None:
    for spec in specs:
        folder = dynamics_folder(base, spec)
        if count_epochs(folder):
            raise UsageError(f"--dynamics: {folder} holds training dynamics already; choose another folder")


def map_columns(maps: Sequence[tuple[RunSpec, dict[str, torch.Tensor]]]) -> dict[str, Any]:
    """The data maps of several runs as the columns of data_map.parquet."""
    sizes = [len(columns["index"]) for _, columns in maps]
    joined = {name: np.concatenate([columns[name].numpy() for _, columns in maps]) for name in maps[0][1]}
    return {
        "run": np.repeat(np.array([spec.name for spec, _ in maps], dtype=object), sizes),
        "seed": np.repeat(np.array([spec.seed for spec, _ in maps]), sizes),
        **joined,
    }


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
    from safetensors.torch import save_file

    model.encoder.save_pretrained(folder)  # type: ignore[operator, union-attr]
    tokenizer.save_pretrained(folder)
    heads = {k: v.cpu().contiguous() for k, v in model.state_dict().items() if not k.startswith("encoder.")}
    save_file(heads, folder / HEADS)
    write_json(folder / LABELS, {"intent_names": data.intent_names, "slot_names": data.slot_names})


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
