"""The loss of a Trainer whose examples count differently, through ``compute_loss_func``.

The Trainer's own loss is a mean in which no example can be told from another.  So the losses are computed here, from
the same outputs and labels.  Each example's loss is multiplied by its weight.  The sum is divided by
``num_items_in_batch``, where the Trainer counts it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fastprune.scores.task import ExampleLosses

AGREEMENT = 0.02
LOSS_ADVICE = (
    "say how the losses of several heads add up, with fastprune.Task(heads, loss=fastprune.JointLoss(...)), pass "
    "Trainer(compute_loss_func=...) that returns the loss of each example, (B,), or choose a method without weights "
    "(`fastprune methods`)"
)
TASK_ADVICE = (
    "pass attach(task=fastprune.Task(...)), as no score_fn gives the losses to weight, or choose another method"
)


def weighted_loss(losses: ExampleLosses, weights: Tensor | None, num_items: Any, accumulation: int) -> Tensor:
    """Σ w_i l_i over the labels of the accumulated batch.

    Without ``num_items`` it is over those of this micro-batch.  The Trainer then leaves the division by the
    ``accumulation`` steps to this function, too.
    """
    sums = losses.sums if weights is None else losses.sums * weights.to(losses.sums)
    if num_items is None:
        return sums.sum() / losses.counts.sum().clamp_min(1) / accumulation
    return sums.sum() / num_items


def own_losses(loss_func: Callable[..., Any], outputs: Any, labels: Any, num_items: Any, batch: int) -> ExampleLosses:
    """What the user's ``compute_loss_func`` says of each example.

    Raises:
        ValueError: it returns anything but (B,).
    """
    losses = loss_func(outputs, labels, num_items_in_batch=num_items)
    if not isinstance(losses, Tensor) or losses.shape != (batch,):
        shape = tuple(losses.shape) if isinstance(losses, Tensor) else type(losses).__name__
        raise ValueError(f"compute_loss_func returned {shape} for a batch of {batch}, and this method weights "
                         f"the loss of each example; {LOSS_ADVICE}")  # fmt: skip
    return ExampleLosses(losses, torch.ones_like(losses, dtype=torch.int64))


def check_agreement(losses: ExampleLosses, theirs: Tensor) -> None:
    """Refuse a model whose loss is not the mean of the losses that would be weighted.  Waits for the device.

    ``theirs`` is the loss of the one batch, computed without a count of the items of a step.

    Raises:
        ValueError: the two differ by more than 2 %.
    """
    mean = float(losses.sums.sum() / losses.counts.sum().clamp_min(1))
    if not abs(float(theirs) - mean) <= AGREEMENT * max(abs(mean), 1e-6):
        raise ValueError(
            f"the model's loss is {float(theirs):.6g}, the mean of its examples' is {mean:.6g}: it is a loss "
            f"of its own, whose examples cannot be weighted; {LOSS_ADVICE}"
        )
