"""A Hugging Face Trainer with `fastprune.attach`, recorded."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import datasets
import torch
from helpers import toy
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Trainer, TrainerCallback, TrainingArguments

import fastprune
from golden.cases import BATCH, EPOCHS, N, options
from golden.recordings import Record

SETTINGS = {
    "accumulated": {"gradient_accumulation_steps": 2},
    "steps": {"max_steps": 21},
    "cut": {"num_train_epochs": 3.5},
}
"""Cases of this loop alone: the method "el2n-free", in another set-up of the Trainer."""
STATE_FILE = "fastprune.pt"


class Classifier(nn.Module):
    """The network as a Trainer takes it."""

    def __init__(self, noise: bool) -> None:
        super().__init__()
        self.net = toy.Net(noise)

    def forward(self, x: Tensor, labels: Tensor | None = None, index: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.net(x)
        return {"logits": logits} if labels is None else {"loss": F.cross_entropy(logits, labels), "logits": logits}


class Recording(Trainer):
    """Notes what each batch holds; the epoch is the one that callbacks and loggers see."""

    record: Record
    pruner: fastprune.DynamicPruner

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        self.record.add(int(self.state.epoch + 1e-6), self.pruner.kept_indices, inputs["index"])
        return super().training_step(model, inputs, *args, **kwargs)


class SaveAfter(TrainerCallback):
    """Writes a checkpoint after each of these steps."""

    def __init__(self, steps: Collection[int]) -> None:
        self.steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_save = state.global_step in self.steps


def run(
    case: str,
    data: int,
    folder: Path,
    *,
    jitter: int | None = None,
    noise: bool = False,
    save: Collection[int] = (),
    resume: Path | None = None,
    backend: str | None = None,
) -> Record:
    """A run of a case on the data of that seed, or its rest from a checkpoint.

    Args:
        noise: as of `toy.Net`.  Recorded runs go without: how many numbers a Trainer's loaders draw from the global
            generator depends on the versions of its libraries.
        save: after these steps checkpoints are written into ``folder``.
        backend: of several processes.
    """
    x, y = toy.examples(N, data, jitter)
    rows = datasets.Dataset.from_dict({"x": x.tolist(), "labels": y.tolist(), "index": list(range(N))})
    model = Classifier(noise)
    arguments = TrainingArguments(
        output_dir=str(folder),
        **{
            "num_train_epochs": EPOCHS,
            "per_device_train_batch_size": BATCH,
            "max_grad_norm": 0.0,
            "save_strategy": "no",
            "logging_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "use_cpu": True,
            "ddp_backend": backend,
            "seed": 11,
            **SETTINGS.get(case, {}),
        },
    )
    trainer = Recording(
        model=model,
        args=arguments,
        train_dataset=rows,
        optimizers=(toy.optimizer(model), None),
        callbacks=[SaveAfter(save)],
    )
    chosen = options("el2n-free" if case in SETTINGS else case, folder)
    trainer.pruner, trainer.record = fastprune.attach(trainer, **chosen), Record()
    if resume is None:
        trainer.train()
    else:
        torch.manual_seed(99)  # as a new process would have it
        trainer.train(resume_from_checkpoint=str(resume))
    trainer.record.optimizer_steps = trainer.state.global_step
    trainer.record.scored, trainer.record.weights = model.net.scored, model.net.weights().tolist()
    return trainer.record


def checkpoint(folder: Path, step: int) -> Path:
    """The folder that the Trainer writes after that step."""
    return folder / f"checkpoint-{step}"
