"""A task, a network and scores small enough to train hundreds of times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

import fastprune

N, CLASSES, WIDTH = 53, 5, 8
SCORES = ("el2n", "loss", "confidence", "margin", "correct")


def data(n: int = N) -> Dataset[Any]:
    """(x, y, index) of n examples; a line tells the classes apart, but for noise."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, WIDTH, generator=generator)
    noise = torch.randn(n, CLASSES, generator=generator)
    y = (x @ torch.randn(WIDTH, CLASSES, generator=generator) + noise).argmax(1)
    return fastprune.with_index(TensorDataset(x, y))


def network() -> nn.Sequential:
    """Dropout stays on: a use of the global random state that does not belong there would show."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(WIDTH, 16), nn.Dropout(0.2), nn.ReLU(), nn.Linear(16, CLASSES))


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


def losses_and_scores(logits: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Each example's loss, and every metric that a training step can supply."""
    losses, scores = fastprune.cross_entropy(logits, y, reduction="none", return_scores=SCORES)
    return losses, {**scores, "probabilities": logits.detach().softmax(-1)}


def score_batch(net: nn.Sequential, metric: str, batch: tuple[Tensor, ...]) -> Tensor:
    """One metric of a scoring pass."""
    x, y, _ = batch
    if metric != "grand":
        return fastprune.score(net(x), y, metric)
    features = net[:-1](x)
    return fastprune.grand(net[-1](features), y, features)


def scores_file(folder: Path, n: int = N) -> Path:
    """A file for the method that reads one."""
    path = folder / "scores.csv"
    path.write_text("index,score\n" + "".join(f"{i},{(7 * i) % n}\n" for i in range(n)))
    return path
