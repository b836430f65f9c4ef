"""What a selection is."""

from __future__ import annotations

from dataclasses import dataclass

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

    def __len__(self) -> int:
        return self.indices.shape[0]
