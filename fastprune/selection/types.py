"""`Selection`: what every strategy returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Selection:
    """The examples that are kept, and the weight of each.

    Attributes:
        indices: (k,) int64, strictly ascending.
        weights: (k,) fp32, in the order of `indices`, or None if all examples count alike. The loss of each kept
            example is multiplied by its weight.

    Example:
        >>> import torch
        >>> selection = Selection(torch.tensor([0, 3]), torch.tensor([1.0, 2.0]))
        >>> len(selection)
        2
        >>> losses = torch.tensor([0.5, 0.1, 0.2, 0.4])
        >>> (losses[selection.indices] * selection.weights).mean()
        tensor(0.6500)
    """

    indices: Tensor
    weights: Tensor | None = None

    def to(self, device: torch.device | str) -> Selection:
        """The same selection on another device."""
        return Selection(self.indices.to(device), None if self.weights is None else self.weights.to(device))

    def __len__(self) -> int:
        return self.indices.shape[0]
