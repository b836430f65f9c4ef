"""A pruned run that goes on from the newest complete checkpoint, for test_trainer_checkpoints.py."""

from __future__ import annotations

import time
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from helpers import toy_trainer as toy
from transformers import TrainerCallback, TrainingArguments

import fastprune
from fastprune.errors import UsageError


class Announce(TrainerCallback):
    def __init__(self, to: Connection) -> None:
        self.to = to

    def on_train_begin(self, args, state, control, **kwargs):
        self.to.send("training")


def train(folder: Path, listener: Connection) -> None:
    """Trains in the folder, and leaves result.pt when it is done; the listener hears when training begins."""
    args = TrainingArguments(
        output_dir=str(folder / "run"),
        per_device_train_batch_size=5,
        num_train_epochs=6,
        save_strategy="steps",
        save_steps=3,
        save_total_limit=2,
        eval_strategy="epoch",
        logging_strategy="steps",
        logging_steps=3,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        seed=11,
    )
    trainer = toy.Recorder(
        model=toy.model(),
        args=args,
        train_dataset=toy.hub_dataset(),
        eval_dataset=toy.hub_dataset(20),
        callbacks=[Announce(listener)],
    )
    pruner = fastprune.attach(trainer, keep_fraction=0.5, cycle_epochs=2, method="infobatch")
    start = time.perf_counter()
    try:
        trainer.train(resume_from_checkpoint=True)
    except UsageError:  # killed before the first checkpoint was complete
        torch.manual_seed(args.seed)
        trainer.train()
    timing = ("runtime", "per_second", "_seconds", "total_flos")
    entries = [{k: v for k, v in e.items() if not any(t in k for t in timing)} for e in trainer.state.log_history]
    result = {
        "weights": torch.cat([w.flatten().float() for w in toy.weights(trainer).values()]),
        "kept": pruner.kept_indices,
        "scores": pruner.history.value("loss"),
        "metrics": [e for e in entries if "train_loss" not in e],
        "seconds": time.perf_counter() - start,
    }
    torch.save(result, folder / "result.tmp")
    (folder / "result.tmp").replace(folder / "result.pt")
