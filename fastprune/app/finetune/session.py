"""The main job: makes every run of a comparison, and writes the run folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import fastprune
from fastprune.app.data import TextData, identity_of
from fastprune.app.finetune.beginning import begin, dynamics_folder, refuse_old_dynamics
from fastprune.app.finetune.checkpoint import (
    can_go_on,
    newest_whole,
    read_finished,
    remove_checkpoint,
    run_folder,
    write_finished,
)
from fastprune.app.finetune.columns import map_columns, score_columns
from fastprune.app.finetune.parts import Parts
from fastprune.app.finetune.progress import LiveProgress
from fastprune.app.finetune.ranks import first, tell
from fastprune.app.finetune.record import Judging, RunResult
from fastprune.app.finetune.requirements import check_methods, tell_never_pruned
from fastprune.app.finetune.spec import RunSpec, Training, plan_of
from fastprune.app.finetune.tasks import parts_of
from fastprune.app.finetune.train import Job, RunTrainer, make_trainer, train, warm_up
from fastprune.app.finetune.trust import NONE, Trust
from fastprune.app.report import Report, RunFolder, make_summary, write_report
from fastprune.app.report.json_types import Row
from fastprune.errors import UsageError
from fastprune.platform.collectives import broadcast_object


def finetune(
    data: TextData,
    model: str | None,
    specs: Sequence[RunSpec],
    training: Training,
    out: Path,
    *,
    resume: bool = False,
    extend: bool = False,
    best: bool = False,
    trainer: Mapping[str, Any] | None = None,
    dynamics: Path | None = None,
    source: Mapping[str, Any] | None = None,
    command: Mapping[str, Any] | None = None,
    trust: Trust = NONE,
) -> Report | None:
    """Make the runs one after the other, and leave a run folder with report and the last model.

    In several processes (torchrun, accelerate) all call it.  Only the first writes, and gets the report.

    Args:
        data: what to train and test on.  The reported splits are evaluated at every epoch's end.
        model: a folder, a hub id, or None for the packaged MiniLM, and for a language model a tiny one.
        specs: the runs, see `plan_runs`.
        training: how all of them are trained.
        out: the run folder.  It must be new or empty unless ``resume`` or ``extend``.
        resume: go on from the folder's checkpoint, or start again if it was killed before the first.
        extend: add those of ``specs`` that a finished comparison has not made.  With other epochs all are made again.
        best: keep the model of each run's best epoch, by the deciding quality measure of the validation split.
        trainer: what `parse_trainer` returned.
        dynamics: folder that gets each run's training dynamics, see `dynamics_folder` and `fastprune.app.dynamics`.
        source: how ``data`` was loaded, for the record: `Source.settings`.
        command: the options of the command line, for ``--resume`` without them.
        trust: what may be executed of the model.

    Raises:
        UsageError: the model cannot be loaded, a folder is in use, or the checkpoint is another run's.
    """
    going_on = (resume or extend) and can_go_on(out, extend=extend)
    if not resume and not extend:
        refuse_old_dynamics(dynamics, specs)
    check_methods(specs, training, data, dynamics)
    if best and data.validation is None:
        raise UsageError("--best chooses the epoch by a validation split, and the data have none; leave it out")
    parts = parts_of(data, model, training, trust)
    judging = Judging(data.metrics, data.validation if best else None)
    options = {
        "model": parts.name,
        **asdict(training),
        "trainer": dict(trainer or {}),
        "runs": [asdict(spec) for spec in specs],
        # A run whose first epochs were not recorded could not be read.
        "dynamics": None if dynamics is None else str(dynamics),
        "best": judging.best,
        "fingerprint": identity_of(data),
    }
    judged = {"task": data.kind, "metrics": list(data.metrics), "reported": list(data.reported)}
    config = {**options, "data": data.name, **judged, **environment(data), "data_source": source, "command": command}
    if first():
        begin(out, specs, options, config, dynamics, extend=extend, going_on=going_on)
        tell_never_pruned(specs, data.train.row_numbers, training)
    broadcast_object(None)  # the folder is there
    folder = RunFolder.open(out)
    job = make_job(data, training, trainer or {}, judging, parts, numbered=dynamics is not None)
    results = _make_runs(job, specs, folder, dynamics, lambda run: parts.write_model(folder, run, job))
    return finish(folder, data, parts.name, results) if first() else None


def _make_runs(
    job: Job,
    specs: Sequence[RunSpec],
    folder: RunFolder,
    dynamics: Path | None,
    keep_model: Callable[[RunTrainer], None],
) -> list[RunResult]:
    """Make those of the runs that the folder has not finished, and return all in their order.

    Args:
        job: what they share.
        specs: all runs.
        folder: the run folder.
        dynamics: gets their training dynamics.
        keep_model: given the last run when it has ended.
    """
    out = folder.path
    finished = {number: RunResult.of(state) for number, state in read_finished(out).items()}
    results = {n: r for n, r in finished.items() if n < len(specs) and r.spec == specs[n]}
    todo = [number for number in range(len(specs)) if number not in results]

    def write(running: RunResult) -> None:
        folder.write_metrics(_rows({**results, number: running}))

    with LiveProgress(len(specs), len(results), silent=not first()) as progress:
        progress.total(*_work(specs, todo, job.training, job.data))
        for number in todo:
            spec = specs[number]
            progress.run(spec)
            recorded = None if dynamics is None else dynamics_folder(dynamics, spec)
            run = make_trainer(job, spec, run_folder(out, number), progress, write, recorded)
            if number == todo[0]:
                warm_up(run)
            result = train(run, newest_whole(out, number))
            if number == todo[-1]:
                result.model = {"run": spec.name, "seed": spec.seed, "epoch": run.recorder.kept_epoch}
                keep_model(run)
            results[number] = result
            if first():
                write_finished(out, number, asdict(result))
            broadcast_object(None)  # before another run asks for its checkpoints
    return [results[number] for number in sorted(results)]


def _work(specs: Sequence[RunSpec], todo: Sequence[int], training: Training, data: TextData) -> tuple[int, int, float]:
    """Return what the runs train on, what they score or evaluate, and the share of it that is done already."""
    n, tested = len(data.train), sum(len(data.held_out[name]) for name in data.reported)
    trained, forward = [], []
    for spec in specs:
        plan = plan_of(spec, data.train.row_numbers, training)
        trained.append(spec.max_examples or plan.examples)
        forward.append(training.epochs * tested + plan.passes * n)
    return sum(trained), sum(forward), 1 - sum(trained[number] for number in todo) / max(1, sum(trained))


def finish(folder: RunFolder, data: TextData, model_name: str, results: Sequence[RunResult]) -> Report:
    """Write scores, summary and picture, and then remove the checkpoint, which is no longer needed."""
    rows = [row for result in results for row in result.rows]
    folder.write_metrics(rows)
    folder.write_scores(score_columns([cycle for result in results for cycle in result.cycles]))
    maps = [(result.spec, result.data_map) for result in results if result.data_map is not None]
    if maps:
        folder.write_data_map(map_columns(maps))
    kept = next((r.model for r in reversed(results) if r.model is not None), None)
    folder.write_summary(make_summary(rows, folder.read_config(), kept))
    report = write_report(folder.path, data=data)
    remove_checkpoint(folder.path)
    return report


def environment(data: TextData) -> Row:
    """Return what a reader needs to judge the numbers."""
    return {
        "train_examples": len(data.train),
        "test_examples": len(data.test),
        "fastprune": fastprune.__version__,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
    }


def make_job(
    data: TextData, training: Training, own: Mapping[str, Any], judging: Judging, parts: Parts, *, numbered: bool
) -> Job:
    """Encode the splits, and say how many texts were cut."""
    names = dict.fromkeys([*data.reported, *([] if judging.best is None else [judging.best])])
    train = parts.encode(data.train, numbered=numbered)
    splits = {name: parts.to_evaluate(data.held_out[name]) for name in names}
    cut = sum(split.encoded.truncated for split in splits.values())
    if train.truncated or cut:
        texts = f"{train.truncated} training and {cut} test texts"
        tell(f"note: {texts} are longer than {parts.length} tokens and were cut; see --max-length")
    return Job(data, training, {**parts.own, **own}, judging, train, splits, parts)


def _rows(results: Mapping[int, RunResult]) -> list[Row]:
    return [row for number in sorted(results) for row in results[number].rows]
