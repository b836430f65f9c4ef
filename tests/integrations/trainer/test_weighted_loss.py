"""The loss of a micro-batch from those of its examples."""

from __future__ import annotations

import torch

from fastprune.integrations.trainer.weighted_loss import weighted_loss
from fastprune.scores.task import ExampleLosses


def test_without_a_count_the_loss_is_the_mean_of_the_micro_batch():
    losses = ExampleLosses(torch.tensor([2.0, 4.0]), torch.tensor([1, 3]))
    weights = torch.tensor([1.0, 0.5])
    assert weighted_loss(losses, weights, None, 2) == 4.0 / 4 / 2
    assert weighted_loss(losses, weights, torch.tensor(8), 2) == 4.0 / 8
    assert weighted_loss(losses, None, 6, 1) == 1.0
