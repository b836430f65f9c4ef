"""The toy problem: data, a network, and a user's plain loop around a pruner, small enough to train hundreds of times.

All numbers that go in are exact in fp32 and come from integer draws, so that every machine starts with the same ones.
Drawn normal numbers would not do: their last bits depend on the processor.  The golden records were made from it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import fastprune

N, WIDTH, CLASSES = 53, 4, 3
"""53 is a prime: it leaves a short last batch, and shares of ranks that must be filled up."""
ROUND = 50
"""How many examples there are where a test spells out its steps and its kept sets."""
LEARNING_RATE, MOMENTUM = 0.1, 0.5
JITTER = 1e-4
METRICS = ("el2n", "loss", "confidence", "margin", "correct")
"""What a training step supplies, beside probabilities."""
Batch = tuple[Tensor, Tensor, Tensor]
Step = tuple[Tensor, dict[str, Tensor]]
"""The index of a batch, and its scores by metric."""
Place = tuple[int, int | None]
"""An epoch, and how many of its batches are done.

None means after its last batch, and before the scoring pass if one is due.
"""


def examples(n: int = N, seed: int = 1, jitter: int | None = None) -> tuple[Tensor, Tensor]:
    """x (n, WIDTH), multiples of 1/8 in [-2, 2], and y (n,); a third of the labels are at odds with their x.

    Args:
        jitter: moves every number of x by up to a share `JITTER`, differently for every value of it.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-16, 17, (n, WIDTH), generator=generator) / 8
    wrong = torch.randint(0, 3, (n,), generator=generator) == 0
    y = (x[:, :CLASSES].argmax(1) + wrong) % CLASSES
    if jitter is not None:
        moves = torch.randint(-16, 17, x.shape, generator=torch.Generator().manual_seed(1000 + jitter)) / 16
        x = x * (1 + JITTER * moves)
    return x, y


class Examples(Dataset[Any]):
    """The toy examples as mappings."""

    def __init__(self, n: int = N, seed: int = 1, jitter: int | None = None) -> None:
        self.x, self.y = examples(n, seed, jitter)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"x": self.x[index], "labels": self.y[index]}


def data(n: int = N) -> Dataset[Any]:
    """The toy examples as (x, y, index)."""
    return fastprune.with_index(TensorDataset(*examples(n)))


class Net(nn.Module):
    """One linear layer.

    With ``noise`` a training step sets inputs to zero at random.  The draws come from the global generator, so a draw
    too many anywhere in the run shows in the weights.  ``torch.rand`` gives the same bits on every processor, which
    ``nn.Dropout`` does not promise.

    Attributes:
        scored: how many examples it was given in eval mode, which are those of scoring passes and of their trials.
    """

    def __init__(self, noise: bool = False) -> None:
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

    def weights(self) -> Tensor:
        """All of them in one row, a copy."""
        return torch.cat([parameter.detach().flatten() for parameter in self.parameters()]).clone()


def optimizer(net: nn.Module) -> torch.optim.Optimizer:
    """One with a state of its own, which a resumed run must find again."""
    return torch.optim.SGD(net.parameters(), LEARNING_RATE, MOMENTUM)


def losses_and_scores(logits: Tensor, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Each example's loss, and every metric that a training step can supply."""
    losses, scores = fastprune.cross_entropy(logits, y, reduction="none", return_scores=METRICS)
    return losses, {**scores, "probabilities": logits.detach().softmax(-1)}


def pass_scores(net: Net, metric: str, x: Tensor, y: Tensor) -> Tensor:
    """One metric of a scoring pass."""
    logits = net(x)
    return fastprune.grand(logits, y, x) if metric == "grand" else fastprune.score(logits, y, metric)


def scores_file(folder: Path, n: int = N) -> Path:
    """A file for the method that reads one."""
    path = folder / "scores.csv"
    path.write_text("index,score\n" + "".join(f"{i},{(7 * i) % n}\n" for i in range(n)))
    return path


def method_text(name: str, folder: Path, n: int = N) -> str:
    """What ``method=`` takes for a registered name: a file goes with the one that reads a file."""
    return f"static:{scores_file(folder, n)}" if name == "static" else name


class Loop:
    """A user's own training loop; remembers what it did.

    Args:
        options: of the pruner.

    Attributes:
        model: what a training step calls; a subclass may wrap the net.
        loader: what an epoch iterates; a subclass may replace it.
        steps: by epoch the steps, in order.
        kept: by epoch the kept set.
        rescored: by epoch the arguments and the result of the scoring pass after it.
    """

    def __init__(self, *, n: int = N, batch_size: int = 10, **options: Any) -> None:
        self.data, self.net = data(n), Net(noise=True)
        self.model: nn.Module = self.net
        self.optimizer = optimizer(self.net)
        self.pruner = fastprune.DynamicPruner(n, **options)
        self.batch_size = batch_size
        self.loader = self.reading(self.pruner.sampler)
        self.steps: dict[int, list[Step]] = {}
        self.kept: dict[int, list[int]] = {}
        self.rescored: dict[int, tuple[Tensor, Tensor]] = {}
        torch.manual_seed(3)

    def reading(self, sampler: Any, kind: type = DataLoader, **settings: Any) -> Any:
        """A loader of the data in the sampler's order."""
        settings = {"batch_size": self.batch_size, "generator": torch.Generator(), **settings}
        return kind(self.data, sampler=sampler, **settings)

    def train(self, epochs: int) -> Iterator[Place]:
        """Train, and say after every batch, and after the last one of an epoch once more, how far it is."""
        for epoch in self.pruner.epochs(epochs):
            self.kept[epoch] = self.pruner.kept_indices.tolist()
            for batches, batch in enumerate(self.loader, start=1):
                self.step(epoch, *batch)
                yield epoch, batches
            yield epoch, None
            if self.pruner.wants_scores:
                self.pruner.rescore(self.score)

    def run(self, epochs: int, stop: Place | None = None) -> Self:
        """Train to the end, or leave there, as a crash would."""
        for place in self.train(epochs):
            if place == stop:
                break
        return self

    def step(self, epoch: int, x: Tensor, y: Tensor, index: Tensor) -> None:
        """Train on a batch."""
        losses, scores = losses_and_scores(self.model(x), y)
        self.pruner.observe(index, scores)
        self.update(self.pruner.mean_loss(losses, index))
        self.steps.setdefault(epoch, []).append((index, scores))

    def update(self, loss: Tensor) -> None:
        """Change the weights."""
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def score(self, index: Tensor) -> Tensor:
        """The scoring pass."""
        metric = self.pruner.method.reads[0]

        def of_batch(batch: Batch) -> Tensor:
            return pass_scores(self.net, metric, *batch[:2])

        scores = fastprune.score_dataset(self.model, self.data, of_batch, indices=index)
        self.rescored[self.pruner.sampler.piece_number] = (index, scores)
        return scores

    @property
    def seen(self) -> dict[int, list[int]]:
        """By epoch the examples in the order in which they were read."""
        return {epoch: torch.cat([index for index, _ in steps]).tolist() for epoch, steps in self.steps.items()}

    def state(self) -> dict[str, Any]:
        """What a user saves, and the loader's state if it has one."""
        parts = {name: getattr(self, name) for name in ("net", "optimizer", "pruner", "loader")}
        states = {name: part.state_dict() for name, part in parts.items() if hasattr(part, "state_dict")}
        return copy.deepcopy({**states, "random": torch.get_rng_state()})

    def load(self, state: dict[str, Any], *names: str) -> None:
        """Go on from there.

        Args:
            names: what is loaded after the net and the optimizer, in this order; the pruner unless told.
        """
        for name in ("net", "optimizer", *(names or ("pruner",))):
            getattr(self, name).load_state_dict(state[name])
        torch.set_rng_state(state["random"])
