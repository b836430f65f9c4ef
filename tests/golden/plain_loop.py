"""A user's own training loop around `fastprune.DynamicPruner`, recorded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from helpers import toy
from torch import Tensor
from torch.utils.data import DataLoader

import fastprune
from golden.cases import BATCH, EPOCHS, SEED, N, options
from golden.recordings import Record

SETTINGS = ("unobserved", "drop-last")
"""Cases of this loop alone, with the method "el2n": the loop never calls ``observe``, or leaves short batches out."""


class PlainLoop:
    """A run of a case on the data of that seed."""

    def __init__(self, case: str, data: int, folder: Path, jitter: int | None = None) -> None:
        self.case = case
        self.data = toy.Examples(N, data, jitter)
        self.net = toy.Net(noise=True)
        self.optimizer = toy.optimizer(self.net)
        self.pruner = fastprune.DynamicPruner(N, seed=SEED, **options("el2n" if case in SETTINGS else case, folder))
        self.record = Record()
        torch.manual_seed(7)

    def run(self, stop: int | None = None, scored: bool = False) -> PlainLoop:
        """Train to the end, or until ``batches`` batches are done.

        Args:
            stop: leave the loop after this batch.
            scored: stop after the scoring pass that follows this batch, if there is one.
        """
        self._train(stop, scored)
        self.record.scored, self.record.weights = self.net.scored, self.net.weights().tolist()
        return self

    def _train(self, stop: int | None, scored: bool) -> None:
        loader = DataLoader(
            fastprune.with_index(self.data),
            sampler=self.pruner.sampler,
            batch_size=BATCH,
            generator=torch.Generator(),
            drop_last=self.case == "drop-last",
        )
        for epoch in self.pruner.epochs(EPOCHS):
            for batch in loader:
                self.step(epoch, batch)
                if len(self.record.batches) == stop and not scored:
                    return
            if self.pruner.wants_scores:
                self.pruner.rescore(self.scores)
            if len(self.record.batches) == stop:
                return

    def step(self, epoch: int, batch: Mapping[str, Tensor]) -> None:
        """Train on a batch."""
        self.record.add(epoch, self.pruner.kept_indices, batch["index"])
        losses, scores = toy.losses_and_scores(self.net(batch["x"]), batch["labels"])
        if self.case != "unobserved":
            self.pruner.observe(batch["index"], scores)
        self.pruner.mean_loss(losses, batch["index"]).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.record.optimizer_steps += 1

    def scores(self, index: Tensor) -> dict[str, Tensor]:
        """Every metric that a scoring pass may be asked for."""
        x, y = self.data.x[index], self.data.y[index]
        self.net.eval()
        with torch.no_grad():
            logits = self.net(x)
            _, scores = toy.losses_and_scores(logits, y)
            scores["grand"] = fastprune.grand(logits, y, x)
        self.net.train()
        return scores

    def state(self) -> dict[str, Any]:
        """What a user saves."""
        return {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.record.optimizer_steps,
            "random": torch.get_rng_state(),
            "pruner": self.pruner.state_dict(),
        }

    def load(self, state: Mapping[str, Any]) -> PlainLoop:
        """Go on from there."""
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.record.optimizer_steps = state["steps"]
        self.pruner.load_state_dict(state["pruner"])
        torch.set_rng_state(state["random"])
        return self
