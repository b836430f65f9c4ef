"""The start and the end of an answer, as question answering gives them: two choices among the tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def stacked_positions(logits: Tensor, positions: Sequence[Tensor], ignore_index: int) -> Tensor:
    """The labels of both ends, (B, 2), for logits (B, 2, T).

    As in the losses of Transformers, a position after the last token does not count, because the answer was cut off. A
    negative position means the first token.

    Raises:
        ValueError: There is not one integer for each example.
    """
    batch, _, tokens = logits.shape
    for given in positions:
        if given.is_floating_point() or given.numel() != batch:
            raise ValueError(
                f"a span's labels must be one token's position for each of {batch} examples, got {tuple(given.shape)} "
                f"of {given.dtype}; pass integers of shape ({batch},)"
            )
    labels = torch.stack([given.reshape(batch) for given in positions], dim=1).clamp_min(0)
    return labels.masked_fill(labels >= tokens, ignore_index)
