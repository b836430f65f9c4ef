"""The toy problem for Lightning: its data in two forms, modules that train on it, loaders and trainers."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, Sampler

import fastprune
from helpers import toy

N = toy.ROUND
warnings.filterwarnings("ignore")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def examples(n: int = N) -> tuple[torch.Tensor, torch.Tensor]:
    """The first feature is the example's index."""
    x, y = toy.examples(n)
    return torch.cat([torch.arange(n)[:, None], x], 1), y


class Pairs(Dataset):
    def __init__(self, n: int = N) -> None:
        self.x, self.y = examples(n)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int):
        return self.x[index], self.y[index]


class Fields(Pairs):
    def __getitem__(self, index: int):
        return {"x": self.x[index], "labels": self.y[index]}


class Shuffled(Sampler):
    """The permutations of the pruner's sampler, stated plainly; Lightning moves its epoch."""

    def __init__(self, n: int = N, seed: int = 0) -> None:
        self.n, self.seed, self.epoch = n, seed, 0

    def __len__(self) -> int:
        return self.n

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return iter(torch.randperm(self.n, generator=generator).tolist())


class Net(LightningModule):
    """Remembers which examples each batch trained on, by epoch, and the learning rate of each step."""

    def __init__(self, noise: bool = False, schedule: bool = False) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.net = toy.Net(noise)
        self.schedule = schedule
        self.batches: dict[int, list[list[int]]] = {}
        self.estimated: list[float] = []
        self.rates: list[float] = []
        self.validated: list[tuple[int, int]] = []

    def forward(self, x):
        return self.net(x[:, 1:])

    def parts(self, batch):
        return (batch["x"], batch["labels"]) if isinstance(batch, dict) else batch

    def training_step(self, batch, batch_idx):
        x, y = self.parts(batch)
        self.batches.setdefault(self.current_epoch, []).append(x[:, 0].long().tolist())
        logits = self(x)
        loss = F.cross_entropy(logits, y)
        self.log("loss", loss, on_step=False, on_epoch=True)
        return {"loss": loss, "logits": logits}

    def validation_step(self, batch, batch_idx):
        if batch_idx == 0 and not self.trainer.sanity_checking:
            self.validated.append((self.current_epoch, self.global_step))
        x, y = self.parts(batch)
        self.log("val_loss", F.cross_entropy(self(x), y))

    def optimizer_step(self, epoch, batch_idx, optimizer, closure):
        self.rates.append(optimizer.param_groups[0]["lr"])
        super().optimizer_step(epoch, batch_idx, optimizer, closure)

    def configure_optimizers(self):
        optimizer = toy.optimizer(self)
        if not self.schedule:
            return optimizer
        self.estimated.append(self.trainer.estimated_stepping_batches)
        # Its function is not saved: a resumed run must estimate the same number of steps.
        total = int(self.estimated[-1])
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1.0 - step / total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def epoch(self, number: int) -> list[int]:
        """The examples of an epoch in order."""
        return [example for batch in self.batches[number] for example in batch]

    def weights(self) -> torch.Tensor:
        return self.net.weights()


class LossOnly(Net):
    """The most usual training_step."""

    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx)["loss"]


class Weighted(Net):
    """Lets the callback weight its losses."""

    def training_step(self, batch, batch_idx):
        x, y = self.parts(batch)
        self.batches.setdefault(self.current_epoch, []).append(x[:, 0].long().tolist())
        logits = self(x)
        losses = F.cross_entropy(logits, y, reduction="none")
        return {"loss": fastprune.PruningCallback.mean_loss(self, losses), "logits": logits}


class Manual(Net):
    """Steps its optimizer itself."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        result = super().training_step(batch, batch_idx)
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(result["loss"])
        optimizer.step()
        return result


class Kept(Callback):
    """The kept set at the start of every epoch that Lightning starts."""

    def __init__(self) -> None:
        self.sets: dict[int, list[int]] = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        pruner = next(c.pruner for c in trainer.callbacks if hasattr(c, "pruner"))
        self.sets[trainer.current_epoch] = pruner.kept_indices.tolist()


def method_text(name: str, folder: Path) -> str:
    """`toy.method_text` for N examples."""
    return toy.method_text(name, folder, N)


def loader(data=None, batch_size: int = 8, **settings) -> DataLoader:
    settings = {"shuffle": True, **settings}
    return DataLoader(Pairs() if data is None else data, batch_size=batch_size, **settings)


def trainer(folder, *callbacks, cls=Trainer, **settings) -> Trainer:
    defaults = {
        "max_epochs": 4,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": str(folder),
    }
    return cls(callbacks=list(callbacks), **{**defaults, **settings})
