"""What a selection is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Selection:
    """The examples that are kept, and how much each counts.

    Attributes:
        indices: (k,) int64, strictly ascending.
        weights: (k,) fp32 factors of the kept examples' losses, in the order of `indices`; None if all
            count alike.
    """

    indices: Tensor
    weights: Tensor | None = None

    def to(self, device: torch.device | str) -> Selection:
        """The same selection on a device."""
        return Selection(self.indices.to(device), None if self.weights is None else self.weights.to(device))

    def __len__(self) -> int:
        return self.indices.shape[0]
