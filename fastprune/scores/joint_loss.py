"""`JointLoss`: how the losses of several heads, and of a head's tokens, become the loss of an example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Addition = Literal["sum", "mean"]


@dataclass(frozen=True)
class JointLoss:
    """The joint loss of several heads. It is used for scores and for the weighted loss of a training step.

    The paper's loss score is 0.5 · CE_intent + 0.5 · Σ CE_slot (the authors' code of arXiv 2306.03208). Question
    answering in Transformers takes the mean of its two heads.

    In a score, "mean" over tokens is over the tokens of the example. In a training step it is over the tokens of the
    whole batch, as in torch's own loss. So examples of equal weight give the model's own loss.

    Args:
        heads: "sum" or "mean" of the heads' losses, or a factor for each head by name.
        tokens: "sum" or "mean" of the losses of a head's tokens.

    Raises:
        ValueError: heads or tokens is another word.
        TypeError: heads is neither a word nor a mapping.

    Example:
        >>> JointLoss()  # the paper's
        JointLoss(heads='mean', tokens='sum')
        >>> JointLoss("mean", "mean").factors(["start", "end"])
        {'start': 0.5, 'end': 0.5}
        >>> JointLoss({"intent": 1.0, "slots": 0.25}).factors(["intent", "slots"])
        {'intent': 1.0, 'slots': 0.25}
    """

    heads: Addition | Mapping[str, float] = "mean"
    tokens: Addition = "sum"

    def __post_init__(self) -> None:
        choices = get_args(Addition)
        if self.tokens not in choices:
            raise ValueError(f"tokens must be one of {', '.join(choices)}, got {self.tokens!r}")
        if isinstance(self.heads, str):
            if self.heads not in choices:
                raise ValueError(f"heads must be one of {', '.join(choices)} or a factor by head, got {self.heads!r}")
        elif not isinstance(self.heads, Mapping):
            raise TypeError(f"heads must be 'sum', 'mean' or a dict of factors by head, got {self.heads!r}")

    def check(self, names: Sequence[str]) -> None:
        """Raises ValueError unless there are factors for exactly these heads."""
        if isinstance(self.heads, Mapping) and set(self.heads) != set(names):
            raise ValueError(f"loss has factors for {sorted(self.heads)}, but the heads are {sorted(names)}")

    def factors(self, names: Sequence[str]) -> dict[str, float]:
        """What the loss of each head is multiplied by."""
        if isinstance(self.heads, Mapping):
            return {name: float(self.heads[name]) for name in names}
        return dict.fromkeys(names, 1.0 if self.heads == "sum" else 1.0 / len(names))

    def score(self, heads: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
        """The loss of each example, fp32 (B,).

        Args:
            heads: By name (losses, valid) of the head's rows, (B, T) each. A head without a valid row in an example
                adds 0.
        """
        factors = self.factors(list(heads))
        parts = []
        for name, (losses, valid) in heads.items():
            total = torch.where(valid, losses, 0.0).sum(-1)
            if self.tokens == "mean":
                total = total / valid.sum(-1).clamp(min=1)
            parts.append(total * factors[name])
        return torch.stack(parts).sum(0)

    def parts(self, heads: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
        """Each example's part of the loss of a training step, (B,) and differentiable. Their mean is that loss.

        Args:
            heads: By name (sums, counts), (B,) each. They are the sum of the losses of an example's labels, and the
                number of these labels.
        """
        factors = self.factors(list(heads))
        found = []
        for name, (sums, counts) in heads.items():
            scale = len(sums) / counts.sum().clamp(min=1) if self.tokens == "mean" else 1.0
            found.append(sums * (factors[name] * scale))
        return torch.stack(found).sum(0)
