"""A linear head: the last layer of a language model, which makes logits of hidden states."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class LinearHead(NamedTuple):
    """Makes the logits softcap(logit_scale * (hidden @ weight.T + bias)), of the dtype of `weight`.

    Attributes:
        weight: (V, H).
        bias: (V,), or None.
        softcap: c of c * tanh(z / c), or 0 for none.
        logit_scale: A factor.
    """

    weight: Tensor
    bias: Tensor | None = None
    softcap: float = 0.0
    logit_scale: float = 1.0

    @property
    def classes(self) -> int:
        """V."""
        return self.weight.shape[0]


class Room:
    """Memory for tiles of one shape after another. It is taken once.

    Args:
        elements: Of the largest tile.
        like: Gives dtype and device.
    """

    def __init__(self, elements: int, like: Tensor) -> None:
        self._memory = like.new_empty(elements)

    def tile(self, rows: int, columns: int) -> Tensor:
        """(rows, columns) contiguous. It overwrites the tile before it."""
        return self._memory[: rows * columns].view(rows, columns)


def logits_of(hidden: Tensor, head: LinearHead) -> Tensor:
    """The logits (..., V) of states (..., H), as a tensor of its own. Gradients flow through it."""
    logits = F.linear(hidden, head.weight, head.bias)
    if head.logit_scale != 1.0:
        logits = logits * head.logit_scale
    return head.softcap * torch.tanh(logits / head.softcap) if head.softcap else logits


def logits_into(tile: Tensor, hidden: Tensor, head: LinearHead, first_class: int) -> Tensor:
    """Write `logits_of` some classes into a tile, and return it. Nothing is recorded for autograd.

    Args:
        tile: OUT (n, V') contiguous.
        hidden: IN (n, H).
        head: IN.
        first_class: The class of column 0.

    Cost: one matrix product by the library, 2 n V' H operations. A scale and a softcap read and write the tile again.
    """
    last = first_class + tile.shape[1]
    weight = head.weight[first_class:last].t()
    if head.bias is None:
        torch.mm(hidden, weight, out=tile)
    else:
        torch.addmm(head.bias[first_class:last], hidden, weight, out=tile)
    if head.logit_scale != 1.0:
        tile.mul_(head.logit_scale)
    if head.softcap:
        tile.div_(head.softcap).tanh_().mul_(head.softcap)
    return tile
