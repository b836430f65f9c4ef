"""A user's plain loop that trains a tiny language model on the kept examples, in one process or several.

The ranks' batches of a step are together the batch of one process. So they take the same steps, but for rounding. The
loss is `fastprune.linear_cross_entropy`, which gives the scores.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import fastprune
from fastprune.platform.collectives import world

N, TOKENS, WORDS, WIDTH, EPOCHS, BATCH = 48, 6, 23, 8, 5, 8
"""Whole batches in every epoch, of the data and of the kept half, on one rank and on two."""
OPTIONS: dict[str, Any] = dict(keep_fraction=0.5, warmup_epochs=1, cycle_epochs=1, seed=5)


def texts() -> Tensor:
    """(N, TOKENS): a word follows from the one before it, and in some texts from chance."""
    generator = torch.Generator().manual_seed(11)
    words = torch.randint(WORDS, (N, 1), generator=generator)
    rows = (words + 3 * torch.arange(TOKENS)) % WORDS
    noise = torch.randint(WORDS, rows.shape, generator=generator)
    share = torch.linspace(0, 1, N).unsqueeze(1)
    return torch.where(torch.rand(rows.shape, generator=generator) < share, noise, rows)


class Body(nn.Module):
    """From words to hidden states."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.layer = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.tanh(self.layer(self.words(tokens)))


class Language(nn.Module):
    """A body and a head of WORDS classes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.body, self.head = Body(), nn.Linear(WIDTH, WORDS, bias=False)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and the score of each token."""
        return loss_of_states(self.body(tokens), self.head.weight, tokens)


def loss_of_states(states: Tensor, head: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    return fastprune.linear_cross_entropy(states, head, tokens, shift=1, return_scores="el2n")


class Loop:
    """The loop.

    Attributes:
        kept: by epoch the kept set.
        read: by epoch the examples that this rank read, in their order.
        latest: by epoch each example's score, as it was known when the kept set was chosen.
    """

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        self.net = Language()
        self.pruner = fastprune.DynamicPruner(N, **OPTIONS)
        if state is not None:
            self.net.load_state_dict(state["net"])
            self.pruner.load_state_dict(state["pruner"])
        self.rank, self.ranks = world()
        self.prepare()
        self.optimizer = torch.optim.SGD(self.net.parameters(), 0.7)
        self.kept: dict[int, list[int]] = {}
        self.read: dict[int, list[int]] = {}
        self.latest: dict[int, Tensor] = {}

    def prepare(self) -> None:
        """Make the loader. A subclass spreads the net over the ranks."""
        sampler = self.pruner.sampler.shard(self.rank, self.ranks) if self.ranks > 1 else self.pruner.sampler
        self.loader: Any = DataLoader(fastprune.with_index(texts()), sampler=sampler, batch_size=BATCH // self.ranks)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return self.net(tokens)

    def run(self, save_after: int | None = None) -> dict[str, Any] | None:
        """Train to the end.

        Returns:
            What a user saves at the end of that epoch.
        """
        saved = None
        for epoch in self.pruner.epochs(EPOCHS):
            self.kept[epoch] = self.pruner.kept_indices.tolist()
            self.latest[epoch] = self.pruner.history.value("el2n").clone() if epoch else torch.zeros(N)
            self.read[epoch] = []
            for tokens, index in self.loader:
                loss, el2n = self.forward(tokens)
                self.pruner.observe(index, el2n.norm(dim=-1))
                loss.backward()
                self.optimizer.step()
                self.optimizer.zero_grad()
                self.read[epoch] += index.tolist()
            if epoch == save_after:
                self.pruner.exchange()
                saved = {"net": self.weights(), "pruner": self.pruner.state_dict()}
        return saved

    def weights(self) -> dict[str, Tensor]:
        """The whole of each parameter, a copy."""
        return {name: whole(parameter).clone() for name, parameter in self.net.state_dict().items()}

    def outcome(self) -> dict[str, Any]:
        return {"kept": self.kept, "read": self.read, "latest": self.latest, "weights": self.weights()}


def whole(parameter: Any) -> Tensor:
    return parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter
