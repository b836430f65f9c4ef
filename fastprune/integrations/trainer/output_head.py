"""The output head of a causal language model: scores from the hidden states that it is given, without its logits.

For one forward pass the head's module gives the logits of the first few classes only.  Its input is scored by
`fastprune.linear_score`.  So everything else of the model runs as always: adapters, prompt learning, images, precision.
The few logits tell whether the model does something to its logits that this file does not know.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastprune.integrations.causal_lm import plain_model
from fastprune.integrations.logit_transform import Transform
from fastprune.integrations.packed import pad_left
from fastprune.scores.linear import linear_score

PROBED = 8
"""Classes whose logits the model still computes."""
TOLERANCE = 0.02
"""Relative difference of probed logits, a few units in the last place of bf16."""


def output_head(model: nn.Module) -> nn.Linear | str:
    """The linear layer that makes the logits, or why there is none, as a part of a sentence."""
    base = plain_model(model)
    find: Any = getattr(base, "get_output_embeddings", None)
    head = None if find is None else find()
    if head is None:
        return f"{type(base).__name__} has no output embedding (get_output_embeddings() gives none)"
    saved, active = getattr(head, "modules_to_save", None), getattr(head, "active_adapter", None)
    if isinstance(saved, nn.ModuleDict) and isinstance(active, str) and active in saved:
        head = saved[active]
    if not isinstance(head, nn.Linear) or type(head).forward is not nn.Linear.forward or "forward" in vars(head):
        return f"the output head of {type(base).__name__} is a {type(head).__name__} with a forward of its own"
    return head


class HeadTap:
    """Scores of one forward pass from its head's input.

    Args:
        head: the linear layer.
        transform: of its logits.
        labels: (B, T), of the batch.  Row t is scored against label t + 1.
        metrics: names for `fastprune.linear_score`.

    Attributes:
        rows: the scores of all tokens, (B, T) each.  None before the forward pass.
    """

    def __init__(self, head: nn.Linear, transform: Transform, labels: Tensor, metrics: Sequence[str]) -> None:
        self.head, self.transform, self.labels, self.metrics = head, transform, labels, tuple(metrics)
        self.rows: dict[str, Tensor] | None = None
        self._probe: Tensor | None = None

    @contextmanager
    def instead_of_logits(self) -> Iterator[None]:
        """Run the model's forward pass inside, without labels."""
        self.head.forward = self._forward  # type: ignore[method-assign,assignment]
        try:
            yield
        finally:
            del self.head.forward

    def knows(self, logits: Any) -> bool:
        """Whether the few logits that the model gave are those of ``transform``.  Waits for the device."""
        if self.rows is None or self._probe is None or not isinstance(logits, Tensor):
            return False
        if logits.shape != self._probe.shape:
            return False
        expected, found = self.transform(self._probe.float()), logits.float()
        return bool(torch.allclose(found, expected, rtol=TOLERANCE, atol=1e-3, equal_nan=True))

    def _forward(self, hidden: Tensor) -> Tensor:
        weight, bias = self.head.weight, self.head.bias
        self._probe = F.linear(hidden, weight[:PROBED], None if bias is None else bias[:PROBED])
        width = self.labels.shape[1]
        if hidden.ndim == 3 and hidden.shape[1] >= width:
            found = linear_score(
                hidden,
                weight,
                pad_left(self.labels.to(hidden.device), hidden.shape[1]),
                self.metrics,
                bias=bias,
                shift=1,
                softcap=self.transform.softcap,
                logit_scale=self.transform.scale,
            )
            self.rows = {name: values[:, -width:] for name, values in found.items()}
        return self._probe
