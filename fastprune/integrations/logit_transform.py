"""What a language model does to the product of its head and hidden states, as its configuration says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

FACTORS: Mapping[str, Literal["times", "divided"]] = {
    "logit_scale": "times",  # Cohere
    "lm_head_multiplier": "times",  # Falcon-H1
    "output_multiplier": "times",
    "logits_scaling": "divided",  # Granite, MiniCPM3
}
"""Fields of a configuration that multiply or divide the logits, before the softcap."""
TIMES_ALTHOUGH = frozenset(("hyperclovax",))
"""Model types whose ``logits_scaling`` multiplies."""


@dataclass(frozen=True)
class Transform:
    """``softcap * tanh(scale * z / softcap)`` of the product z.

    Attributes:
        softcap: c in c * tanh(z / c), or None.
        scale: Multiplies the product, before the softcap.
    """

    softcap: float | None = None
    scale: float = 1.0

    def __call__(self, product: Tensor) -> Tensor:
        """The logits."""
        z = product * self.scale
        return z if self.softcap is None else self.softcap * torch.tanh(z / self.softcap)


def transform_of(config: Any) -> Transform:
    """What the model with this configuration of Transformers does to its logits."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    scale = 1.0
    for name, use in FACTORS.items():
        value = getattr(text, name, None)
        if value is not None:
            divides = use == "divided" and getattr(text, "model_type", None) not in TIMES_ALTHOUGH
            scale = scale / float(value) if divides else scale * float(value)
    return Transform(getattr(text, "final_logit_softcapping", None) or None, scale)
