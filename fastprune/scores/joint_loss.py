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
    """The joint loss of several heads, for scores and for the weighted loss of a training step.

    Args:
        heads: "sum" of the heads' losses, their "mean", or a factor for each head by name.
        tokens: a head's tokens are added up, or averaged.

    With one example, both mean what they say. In a training step tokens "mean" is over the tokens of the whole batch,
    as torch's own loss takes it, so that examples of equal weight give the model's own loss.

    The paper's loss score is 0.5 · CE_intent + 0.5 · Σ CE_slot (the authors' code of arXiv 2306.03208), and
    Transformers' question answering takes the mean of its two heads:

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
        """Raises ValueError unless a factor by head is given for exactly these heads."""
        if isinstance(self.heads, Mapping) and set(self.heads) != set(names):
            raise ValueError(f"loss has factors for {sorted(self.heads)}, but the heads are {sorted(names)}")

    def factors(self, names: Sequence[str]) -> dict[str, float]:
        """What each head's loss is multiplied by."""
        if isinstance(self.heads, Mapping):
            return {name: float(self.heads[name]) for name in names}
        return dict.fromkeys(names, 1.0 if self.heads == "sum" else 1.0 / len(names))

    def score(self, heads: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
        """The loss of each example, fp32 (B,).

        Args:
            heads: by name (losses, valid) of its rows, (B, T) each; a head that is not valid anywhere adds 0.
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
        """Each example's part of a training step's loss, (B,) and differentiable: the mean of them is that loss.

        Args:
            heads: by name (sums, counts), (B,) each: the losses of an example's labels, and how many those are.
        """
        factors = self.factors(list(heads))
        found = []
        for name, (sums, counts) in heads.items():
            scale = len(sums) / counts.sum().clamp(min=1) if self.tokens == "mean" else 1.0
            found.append(sums * (factors[name] * scale))
        return torch.stack(found).sum(0)
