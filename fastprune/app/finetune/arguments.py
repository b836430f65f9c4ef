"""Makes the arguments of Transformers' Trainer: our defaults, and what ``--trainer KEY=VALUE`` says."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import torch

from fastprune.app.finetune.spec import RunSpec, Training
from fastprune.errors import UsageError

LR_WARMUP_SHARE = 0.1
EVAL_BATCH = 128
_INSTEAD: Mapping[str, str] = {
    "use --out": "output_dir",
    "use --seed": "seed data_seed",
    "use --epochs": "num_train_epochs max_steps",
    "use --lr": "learning_rate",
    "use --batch-size": "per_device_train_batch_size per_gpu_train_batch_size auto_find_batch_size",
    "use --precision": "bf16 fp16 bf16_full_eval fp16_full_eval",
    "use --best": "load_best_model_at_end metric_for_best_model greater_is_better",
    "use --resume": "resume_from_checkpoint",
    "a checkpoint is written at every epoch's end and the newest two are kept, so that --resume can go on": (
        "save_strategy save_steps save_total_limit save_only_model save_safetensors save_on_each_node"
    ),
    "a resumed run would read other examples": "ignore_data_skip",
    "examples hold only what the model takes": "remove_unused_columns",
    "the task says what the labels are": "label_names",
    "the progress of all runs is shown in one line": "disable_tqdm",
    "evaluation needs every prediction": (
        "prediction_loss_only batch_eval_metrics eval_do_concat_batches include_for_metrics"
    ),
    "scores are read from a whole model in each process": "fsdp fsdp_config deepspeed parallelism_config",
    "it has no effect here": "do_train do_eval do_predict",
}
REFUSED = {name: reason for reason, names in _INSTEAD.items() for name in names.split()}
"""Fields that would break what fastprune promises, and what to use instead."""


def parse_trainer(pairs: Sequence[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` texts as fields of TrainingArguments, of the fields' own types.

    A list's values are separated by blanks.

    Raises:
        UsageError: it is no such text, no such field, no value of its type, or a field of `REFUSED`.
    """
    from transformers import HfArgumentParser, TrainingArguments

    if not pairs:
        return {}
    known = {field.name for field in fields(TrainingArguments) if field.init}
    parser: argparse.ArgumentParser = _parser_class(HfArgumentParser)(TrainingArguments)
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        name = name.strip().lstrip("-").replace("-", "_")
        if not equals:
            raise UsageError(f"--trainer {pair} is not of the form KEY=VALUE, such as weight_decay=0.1")
        if name in REFUSED:
            raise UsageError(f"--trainer {name} cannot be set: {REFUSED[name]}")
        if name not in known:
            raise UsageError(f"--trainer {name}: TrainingArguments of this version of transformers has no such field")
        actions = [action for action in parser._actions if action.dest == name]
        words = value.split() if actions and actions[0].nargs in ("+", "*") else [value]
        found[name] = getattr(parser.parse_args([f"--{name}", *words]), name)
    return found


def training_arguments(
    training: Training, spec: RunSpec, n: int, folder: Path, own: Mapping[str, Any], world_size: int = 1
) -> Any:
    """Return the TrainingArguments of a run.

    Args:
        training: how the model is trained.
        spec: the run.
        n: number of training examples.
        folder: gets the checkpoints.
        own: what `parse_trainer` returned.  It has the last word.
        world_size: number of processes.

    Raises:
        UsageError: values do not go together.
    """
    from transformers import TrainingArguments

    known = {field.name for field in fields(TrainingArguments)}
    cuda = torch.cuda.is_available()
    values: dict[str, Any] = {
        "output_dir": str(folder),
        "seed": spec.seed,
        "per_device_train_batch_size": training.batch_size,
        "per_device_eval_batch_size": EVAL_BATCH,
        "num_train_epochs": training.epochs,
        "learning_rate": training.lr,
        "weight_decay": 0.01,
        "optim": "adamw_torch_fused",
        "lr_scheduler_type": "linear",
        # 4.x has a field for the share, 5.x takes a number below 1 for one.
        "warmup_ratio" if "warmup_ratio" in known else "warmup_steps": LR_WARMUP_SHARE,
        "max_grad_norm": 1.0,
        "bf16": training.bf16,
        "use_cpu": not cuda,
        "dataloader_pin_memory": cuda,
        "remove_unused_columns": False,
        "save_strategy": "no",  # `Recorder` asks for it at every epoch's end
        "eval_strategy": "no",  # likewise
        "logging_strategy": "epoch",
        "report_to": "none",
        "disable_tqdm": True,
        **own,
    }
    if spec.max_examples is not None:
        step = training.batch_size * values.get("gradient_accumulation_steps", 1) * world_size
        whole, rest = divmod(spec.max_examples, n)
        values["max_steps"] = whole * -(-n // step) + -(-rest // step)
    try:
        arguments = TrainingArguments(**values)
    except (ValueError, TypeError, ImportError) as error:
        raise UsageError(f"--trainer: {str(error).strip().splitlines()[0]}") from error
    arguments._n_gpu = min(1, arguments.n_gpu)  # several devices are several processes, never `DataParallel`
    return arguments


def _parser_class(base: type) -> Any:
    class Parser(base):
        def error(self, message: str) -> NoReturn:
            raise UsageError(f"--trainer: {message}")

    return Parser
