"""Makes one run: Transformers' Trainer with `fastprune.attach`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainerCallback

from fastprune import attach
from fastprune.app.data.types import TextData
from fastprune.app.dynamics import read_dynamics
from fastprune.app.finetune.arguments import training_arguments
from fastprune.app.finetune.encode import group_by_length
from fastprune.app.finetune.model import score_fn_of, task_of
from fastprune.app.finetune.parts import Evaluated, Examples, Parts
from fastprune.app.finetune.record import Judging, Recorder, RunResult, Watcher
from fastprune.app.finetune.spec import RunSpec, Training, resolve_method
from fastprune.errors import UsageError
from fastprune.platform.collectives import broadcast_object, world
from fastprune.pruning import DynamicPruner, Listener, Moments, Phase

ORDERS = ("group_by_length", "train_sampling_strategy")


@dataclass(frozen=True)
class Job:
    """What all runs of a comparison share.

    Attributes:
        own: TrainingArguments of `parse_trainer`.
        splits: those that are evaluated at every epoch's end, by name.
        parts: the model, and what else the task brings.
    """

    data: TextData
    training: Training
    own: Mapping[str, Any]
    judging: Judging
    train: Examples
    splits: Mapping[str, Evaluated]
    parts: Parts


class RunTrainer(Trainer):
    """A Trainer that tells its `Recorder` of its steps and evaluations.

    Attributes:
        evaluated: the split that is evaluated now.
    """

    recorder: Recorder
    evaluated: Any

    def _prepare_inputs(self, inputs: Any) -> Any:
        """The Trainer's, without the numbers of the examples, which no model takes."""
        prepared = super()._prepare_inputs(inputs)
        self.recorder.next_batch(prepared.pop("index", None), prepared.get("labels"))
        return prepared

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Do the Trainer's step, and keep the loss."""
        examples = len(inputs["input_ids"])
        loss = super().training_step(model, inputs, *args, **kwargs)
        self.recorder.step(loss, examples, self.args.world_size)
        return loss

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> Any:
        """The Trainer's, of every split.  The task's quality measures are kept, and its seconds are not counted."""
        with self.recorder.clock.part(None):
            if not isinstance(eval_dataset, str):
                return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
            recorder, splits = self.recorder, dict(self.eval_dataset)  # type: ignore[arg-type]
            split, names, spec = splits[eval_dataset], recorder.judging.measures, recorder.result.spec
            recorder.watcher.epoch(spec, "evaluate", recorder.progress.epochs_closed, recorder.epochs, 1.0, len(split))
            self.evaluated = split
            self.compute_metrics = lambda found: split.measured(names, found.predictions)
            found = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)  # type: ignore[arg-type]
            recorder.watcher.advance(len(split))
            recorder.quality[eval_dataset] = {name: found[f"{metric_key_prefix}_{name}"] for name in names}
            return found

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with self.recorder.clock.part(None):
            super()._save_checkpoint(*args, **kwargs)

    def floating_point_ops(self, inputs: Any) -> int:
        """Return 0.  Counting every parameter takes longer than an optimizer step, and nobody reads the count."""
        return 0


class Stopwatch(Listener):
    """Takes the seconds of scoring passes and selections, each apart from training, and shows the passes."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    @contextmanager
    def scoring(self, examples: int) -> Iterator[None]:
        """Around a scoring pass over so many examples."""
        recorder = self._recorder
        with recorder.clock.part("score"):
            done, spec = recorder.progress.epochs_closed, recorder.result.spec
            recorder.watcher.epoch(spec, "score", done, recorder.epochs, 1.0, examples)
            yield
            recorder.watcher.advance(examples)

    def choosing(self, phase: Phase) -> AbstractContextManager[None]:
        """Around a selection."""
        return self._recorder.clock.part("select")


def make_trainer(
    job: Job,
    spec: RunSpec,
    folder: Path,
    watcher: Watcher,
    write: Callable[[RunResult], None],
    dynamics: Path | None = None,
) -> RunTrainer:
    """Return the trainer of a run.  Weights, order and dropout all start from ``spec.seed``.

    Args:
        job: what all runs share.
        spec: the run.
        folder: for the Trainer's checkpoints.
        watcher: is told how the run goes on.
        write: as for `Recorder`.
        dynamics: likewise.

    Raises:
        UsageError: the method or the Trainer's arguments do not go with this task.
    """
    training, kind, parts = job.training, job.data.kind, job.parts
    arguments = training_arguments(training, spec, len(job.train), folder, job.own, world()[1])
    torch.manual_seed(spec.seed)
    trainer: RunTrainer = parts.trainer(
        parts.make_model(),
        arguments,
        data_collator=parts.collate,
        train_dataset=job.train,
        eval_dataset=dict(job.splits),
        preprocess_logits_for_metrics=parts.compact,
    )
    trainer.remove_callback(PrinterCallback)
    method = resolve_method(spec.method, training, job.data.train.row_numbers)
    try:
        pruner = attach(
            trainer,
            method=method,
            seed=spec.seed,
            task=task_of(kind, weighted=method.weighted),
            score_fn=score_fn_of(kind, method),
            keep_fraction=spec.fraction,
            warmup_epochs=training.warmup_epochs,
            cycle_epochs=training.cycle_epochs,
            final_share=training.final_share,
        )
    except ValueError as error:
        raise UsageError(f"run {spec.name!r}: {error}") from error
    pruner.fingerprint = job.data.fingerprint
    pruner.record_scores = True  # scores.parquet holds them, also at a keep fraction of 1.0
    if not any(name in job.own for name in ORDERS):
        pruner.sampler.arrange = group_by_length(job.train.lengths, training.batch_size)
    recorder = Recorder(spec, pruner, job.judging, training.epochs, watcher, write, dynamics)
    trainer.recorder = recorder
    trainer.add_callback(recorder)
    pruner.listener = Stopwatch(recorder)
    if dynamics is not None:
        model: Any = trainer.model
        model.register_forward_hook(recorder.forward_hook)
    return trainer


def warm_up(trainer: RunTrainer) -> None:
    """Make a step that is thrown away, because the first of a process is several times slower than the rest.

    Without it the run that happens to be first, ``full``, would look slower than it is.
    """
    args: Any = trainer.args
    data: Any = trainer.train_dataset
    model: Any = trainer.model
    batch = trainer.data_collator([data[i] for i in range(min(len(data), args.per_device_train_batch_size))])
    batch.pop("index", None)
    with torch.random.fork_rng(), torch.autocast(args.device.type, torch.bfloat16, enabled=args.bf16):
        model.train()
        loss = model(**trainer._prepare_inputs(batch))["loss"]
    loss.backward()
    model.zero_grad()


def train(trainer: RunTrainer, checkpoint: tuple[Path, dict[str, Any]] | None = None) -> RunResult:
    """Train to the run's end, from its checkpoint if there is one.

    If the best epoch is to be chosen, the model is then that of the best epoch.

    Raises:
        UsageError: the run diverged, or the checkpoint is not that of this run.
    """
    recorder = trainer.recorder
    if checkpoint is None:
        trainer.train()
    else:
        path, state = checkpoint
        recorder.load_state_dict(state, path)
        trainer.add_callback(_EndsIfDone())
        try:
            trainer.train(resume_from_checkpoint=str(path))
        except _DoneError:
            trainer.control = trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)
        except Exception as error:
            if recorder.began:
                raise
            raise UsageError(f"--resume: {path} cannot be gone on with: {error}") from error
    weights = broadcast_object(recorder.best_weights)
    if weights is not None:
        _load_weights(trainer.model, weights)
    result = recorder.finish()
    dynamics = recorder.dynamics
    result.data_map = _map_of_history(recorder.pruner) if dynamics is None else _map_of_dynamics(dynamics)
    return result


class _DoneError(Exception):
    """The checkpoint is that of the last step."""


class _EndsIfDone(TrainerCallback):
    """Ends a resumed run that has made all of its steps.

    A Trainer looks at ``max_steps`` after a step.  So a run that ends inside of an epoch would make one step more.
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps:
            raise _DoneError


def _load_weights(model: Any, path: Path) -> None:
    """Put the weights of a file into the model, or into its adapters where only those are trained."""
    from safetensors.torch import load_file

    if hasattr(model, "peft_config"):
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(model, load_file(path))
        return
    model.load_state_dict(load_file(path), strict=False)


def _map_of_history(pruner: DynamicPruner) -> dict[str, Tensor] | None:
    """Mean and deviation of p(label), where the method keeps both; of the examples it has seen."""
    if pruner.method.statistics.get("confidence") != Moments("deviation"):
        return None
    history = pruner.history
    seen = (history.visits > 0).nonzero().flatten()
    mean, deviation = history.state("confidence")["mean"], history.value("confidence")
    columns = {"index": seen, "confidence": mean[seen], "variability": deviation[seen]}
    return {name: values.cpu() for name, values in columns.items()}


def _map_of_dynamics(dynamics: Path) -> dict[str, Tensor]:
    columns = read_dynamics(dynamics)
    # Every line is of one of our examples, whose guid is its index.
    chosen = {"index": "guid", "confidence": "confidence", "variability": "variability"}
    return {name: torch.from_numpy(columns[column]) for name, column in chosen.items()}
