"""A Lightning Trainer with `fastprune.PruningCallback`, recorded."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from helpers import toy
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

import fastprune
from golden.cases import BATCH, EPOCHS, SEED, N, options
from golden.recordings import Record

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

SETTINGS = {"accumulated": {"accumulate_grad_batches": 2}, "steps": {"max_epochs": -1, "max_steps": 21}}
"""Cases of this loop alone: the method "el2n-free", in another set-up of the Trainer."""
STATE_KEY = "PruningCallback"
"""Where a checkpoint's ``callbacks`` hold the state of the callback."""


class Module(LightningModule):
    """Notes what each batch holds, and lets the callback weight its losses."""

    def __init__(self, callback: fastprune.PruningCallback) -> None:
        super().__init__()
        self.net, self.record, self.callback = toy.Net(noise=True), Record(), callback

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        assert self.callback.pruner is not None
        self.record.add(self.current_epoch, self.callback.pruner.kept_indices, batch["index"])
        logits = self(batch["x"])
        losses = F.cross_entropy(logits, batch["labels"], reduction="none")
        return {"loss": fastprune.PruningCallback.mean_loss(self, losses), "logits": logits}

    def configure_optimizers(self) -> Any:
        """The rate falls to 0 over the number of steps that Lightning estimates."""
        optimizer = toy.optimizer(self)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1.0 - step / steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class SaveAfter(Callback):
    """Writes a checkpoint after each of these steps; the last of the callbacks, as Lightning's own is."""

    def __init__(self, steps: Collection[int], folder: Path) -> None:
        self.steps, self.folder = steps, folder

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step in self.steps:
            trainer.save_checkpoint(checkpoint(self.folder, trainer.global_step))


def run(
    case: str,
    data: int,
    folder: Path,
    *,
    jitter: int | None = None,
    save: Collection[int] = (),
    resume: Path | None = None,
) -> Record:
    """A run of a case on the data of that seed, or its rest from a checkpoint.

    Args:
        save: after these steps checkpoints are written into ``folder``.
    """
    chosen = options("el2n-free" if case in SETTINGS else case, folder)
    callback = fastprune.PruningCallback(seed=SEED, **chosen)
    module = Module(callback)
    loader = DataLoader(
        fastprune.with_index(toy.Examples(N, data, jitter)), batch_size=BATCH, shuffle=True, generator=torch.Generator()
    )
    settings = {
        "max_epochs": EPOCHS,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": str(folder),
        **SETTINGS.get(case, {}),
    }
    torch.manual_seed(7 if resume is None else 99)
    trainer = Trainer(callbacks=[callback, SaveAfter(save, folder)], **settings)
    trainer.fit(module, loader, ckpt_path=resume, weights_only=None if resume is None else True)
    module.record.optimizer_steps = trainer.global_step
    module.record.scored, module.record.weights = module.net.scored, module.net.weights().tolist()
    return module.record


def checkpoint(folder: Path, step: int) -> Path:
    """The file that is written after that step."""
    return folder / f"{step}.ckpt"
