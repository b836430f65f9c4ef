"""What each of two processes runs under torchrun for test_lightning_ddp.py: one fit for each line of FOLDER/jobs.

A line is a JSON object: name, method, checkpoint (none by default) and settings of the trainer and the loader.  What
a rank saw goes to FOLDER/NAME-RANK.pt.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from helpers import toy_lightning as toy
from helpers import under_torchrun
from lightning.pytorch.callbacks import ModelCheckpoint

import fastprune

SECONDS = 240


class Watched(toy.Net):
    """Keeps the newest score of each example it trained on, and how the model is at the end of each epoch."""

    def __init__(self) -> None:
        super().__init__(noise=True, schedule=True)
        self.own: dict[int, float] = {}
        self.at_end: list[torch.Tensor] = []

    def training_step(self, batch, batch_idx):
        result = super().training_step(batch, batch_idx)
        x, y = batch
        scores = fastprune.el2n(result["logits"].detach(), y)
        self.own.update(zip(x[:, 0].long().tolist(), scores.tolist(), strict=True))
        return result

    def on_train_epoch_end(self):
        self.at_end.append(self.weights())


def fit(folder: Path, name: str, method: str, checkpoint: str | None = None, loading=None, **settings) -> None:
    net, kept = Watched(), toy.Kept()
    callback = fastprune.PruningCallback(keep_fraction=0.5, method=method)
    callbacks = [callback, kept]
    if checkpoint is None:
        callbacks.append(ModelCheckpoint(folder, filename=name + "-{step}", save_top_k=-1, every_n_train_steps=1))
    run = toy.trainer(folder, *callbacks, strategy="ddp", devices=2, enable_checkpointing=True, **settings)
    path = None if checkpoint is None else folder / checkpoint
    # Each rank draws numbers of its own, and a new process others than the one that was stopped.
    torch.manual_seed(int(os.environ["RANK"]) + (0 if checkpoint is None else 10))
    run.fit(net, toy.loader(batch_size=4, **(loading or {})), toy.loader(shuffle=False), ckpt_path=path)
    assert callback.pruner is not None and dist.get_world_size() == 2
    found = {
        "batches": net.batches,
        "kept": kept.sets,
        "own": net.own,
        "scores": callback.pruner.history.value("el2n"),
        "visits": callback.pruner.history.visits,
        "weights": net.weights(),
        "at_end": net.at_end,
        "steps": run.global_step,
        "estimated": net.estimated,
        "rate": run.lr_scheduler_configs[0].scheduler.get_last_lr()[0],
        "validated": net.validated,
    }
    torch.save(found, folder / f"{name}-{dist.get_rank()}.pt")


if __name__ == "__main__":
    under_torchrun.settle(SECONDS)
    here = Path(sys.argv[1])
    for job in (here / "jobs").read_text().splitlines():
        fit(here, **json.loads(job))
