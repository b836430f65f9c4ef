"""An optimizer that runs the training step twice on a batch is one observation, that of its first pass."""

from __future__ import annotations

import pytest
import torch
from helpers import toy_lightning as toy

import fastprune


class Twice(torch.optim.SGD):
    """Steps away, runs the closure there, and steps from where it was: SAM's two passes."""

    def step(self, closure):
        with torch.enable_grad():
            loss = closure()
        parameters = [p for group in self.param_groups for p in group["params"]]
        before = [p.detach().clone() for p in parameters]
        for p in parameters:
            p.data.add_(p.grad)
        with torch.enable_grad():
            closure()
        for p, value in zip(parameters, before, strict=True):
            p.data.copy_(value)
        super().step()
        return loss


class SharpnessAware(toy.Net):
    def __init__(self) -> None:
        super().__init__()
        self.expected: dict[int, float] = {}
        self.times = [0] * toy.N
        self.last = None

    def training_step(self, batch, batch_idx):
        result = super().training_step(batch, batch_idx)
        first, self.last = self.last != (self.current_epoch, batch_idx), (self.current_epoch, batch_idx)
        if first:
            scores = fastprune.el2n(result["logits"].detach(), batch[1]).tolist()
            for example, score in zip(batch[0][:, 0].long().tolist(), scores, strict=True):
                self.expected[example] = score
                self.times[example] += 1
        return result

    def configure_optimizers(self):
        return Twice(self.parameters(), lr=0.05)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_scores_are_those_of_the_first_pass(tmp_path, accumulation):
    net, callback = SharpnessAware(), fastprune.PruningCallback(keep_fraction=0.4, method="el2n-free")
    run = toy.trainer(tmp_path, callback, accumulate_grad_batches=accumulation)
    run.fit(net, toy.loader())
    pruner = callback.pruner
    passes, batches = sum(map(len, net.batches.values())), 7 + 3 * 3
    steps = 7 + 3 * 3 if accumulation == 1 else 4 + 3 * 2
    assert passes == batches + steps
    assert pruner.history.value("el2n").tolist() == [net.expected[i] for i in range(toy.N)]
    assert pruner.history.visits.tolist() == net.times
    assert "training_step" not in vars(run.strategy)
