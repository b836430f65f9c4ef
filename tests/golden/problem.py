"""The data and the network of the golden runs.

All numbers that go in are exact in fp32 and come from integer draws, so that every machine starts with the same ones.
Drawn normal numbers would not do: their last bits depend on the processor.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from helpers import toy
from torch import Tensor, nn
from torch.utils.data import Dataset

import fastprune

N, WIDTH, CLASSES = 46, 4, 3
LEARNING_RATE, MOMENTUM = 0.1, 0.5
JITTER = 1e-4


def examples(seed: int, jitter: int | None = None) -> tuple[Tensor, Tensor]:
    """x (N, WIDTH) and y (N,); a third of the labels are at odds with their x.

    Args:
        seed: of the data.
        jitter: moves every number of x by up to a share `JITTER`, differently for every value of it.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-16, 17, (N, WIDTH), generator=generator) / 8
    wrong = torch.randint(0, 3, (N,), generator=generator) == 0
    y = (x[:, :CLASSES].argmax(1) + wrong) % CLASSES
    if jitter is not None:
        moves = torch.randint(-16, 17, x.shape, generator=torch.Generator().manual_seed(1000 + jitter)) / 16
        x = x * (1 + JITTER * moves)
    return x, y


class Examples(Dataset[Any]):
    """Those examples as mappings."""

    def __init__(self, seed: int, jitter: int | None = None) -> None:
        self.x, self.y = examples(seed, jitter)

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": self.x[index], "labels": self.y[index]}


class Net(nn.Module):
    """One linear layer.

    With ``noise`` a training step sets inputs to zero at random.  The draws come from the global generator, so a draw
    too many anywhere in the run shows in the weights.  ``torch.rand`` gives the same bits on every processor, which
    ``nn.Dropout`` does not promise.

    Attributes:
        scored: how many examples it was given in eval mode, which are those of scoring passes and of their trials.
    """

    def __init__(self, noise: bool) -> None:
        super().__init__()
        self.noise = noise
        self.scored = 0
        self.linear = nn.Linear(WIDTH, CLASSES)
        with torch.no_grad():
            self.linear.weight.copy_((torch.arange(WIDTH * CLASSES).view(CLASSES, WIDTH) * 7 % 5 - 2) / 8)
            self.linear.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            self.scored += len(x)
        if self.training and self.noise:
            x = x * (torch.rand(x.shape) >= 0.1)
        return self.linear(x)

    def numbers(self) -> list[float]:
        """The weights."""
        return [float(number) for parameter in self.parameters() for number in parameter.detach().flatten()]


def all_scores(net: Net, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Every metric that a scoring pass may be asked for."""
    net.eval()
    with torch.no_grad():
        logits = net(x)
        _, scores = toy.losses_and_scores(logits, y)
        scores["grand"] = fastprune.grand(logits, y, x)
    net.train()
    return scores


def scores_file(folder: Path) -> Path:
    """A file for the method that reads one."""
    return toy.scores_file(folder, N)
