"""The weights of the newest selection, and a check that the loop uses them."""

from __future__ import annotations

import torch
from torch import Tensor

from fastprune.pruning.history import to_device

UNREAD_BATCHES = 2


class Weights:
    """How much the loss of each example counts.

    Args:
        table: (n,) fp32, by example.  None if all count alike.
    """

    def __init__(self, table: Tensor | None = None) -> None:
        self.table = table
        self._unread = 0

    def of(self, index: Tensor) -> Tensor | None:
        """The weights of a batch's examples, fp32 on the device of ``index``.  None if all count alike."""
        self._unread = 0
        if self.table is None:
            return None
        if self.table.device != index.device:
            self.table = to_device(self.table, index.device)
        return self.table[index]

    def mean_loss(self, losses: Tensor, index: Tensor) -> Tensor:
        """The mean of weight · loss over a batch of losses (B,).  It can be differentiated."""
        weights = self.of(index)
        return losses.mean() if weights is None else (losses * to_device(weights, losses.device)).mean()

    def expect_use(self, method: str) -> None:
        """Count a step, and raise if the loop has not asked for weights for several steps.

        Raises:
            RuntimeError: the loop trains without the weights.
        """
        if self.table is None:
            return
        self._unread += 1
        if self._unread > UNREAD_BATCHES:
            raise RuntimeError(
                f"method {method!r} weights losses, but the loop does not: multiply the losses by "
                "pruner.weights(index), or take pruner.mean_loss(losses, index)"
            )

    def saved(self) -> Tensor | None:
        """A copy of the table for a checkpoint, on the CPU."""
        return None if self.table is None else self.table.cpu().clone()


def weight_table(indices: Tensor, weights: Tensor | None, n: int) -> Tensor | None:
    """The weights by example, (n,) fp32, or None if there are none.  Examples that have no weight get 1.

    The table is on the CPU, where most loaders' indices are.
    """
    if weights is None:
        return None
    table = torch.ones(n, dtype=torch.float32, device="cpu")
    table[indices] = weights
    return table
