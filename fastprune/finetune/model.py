"""The finetuned model: an encoder with an intent head and, for joint data, a slot head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

import fastprune
from fastprune.finetune.encode import IGNORE


class JointModel(nn.Module):
    """Intent from the mean of the last hidden states, one slot tag per token.

    Returns logits by head name: ``{"intent": (B, I)}`` and, when ``n_slots`` is given, ``"slots": (B, T, S)``.
    """

    def __init__(self, encoder: nn.Module, n_intents: int, n_slots: int | None, dropout: float = 0.1) -> None:
        super().__init__()
        hidden: int = encoder.config.hidden_size  # type: ignore[union-attr, assignment]
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.intent = nn.Linear(hidden, n_intents)
        self.slots = None if n_slots is None else nn.Linear(hidden, n_slots)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Logits of every head for a collated batch."""
        inputs = {k: batch[k] for k in ("input_ids", "attention_mask", "token_type_ids") if k in batch}
        states = self.encoder(**inputs).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1).to(states.dtype)
        pooled = (states * mask).sum(1) / mask.sum(1)
        logits = {"intent": self.intent(self.dropout(pooled))}
        if self.slots is not None:
            logits["slots"] = self.slots(self.dropout(states))
        return logits


def forward(
    model: nn.Module, batch: Mapping[str, Tensor], *, bf16: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Logits by head, and the batch on the model's device; with bf16 autocast if asked for."""
    device = next(model.parameters()).device
    placed = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        return model(placed), placed


def joint_loss(logits: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """Sum over heads of the mean cross-entropy of the head's valid labels; scalar fp32."""
    losses = [fastprune.cross_entropy(z.float(), batch[head], ignore_index=IGNORE) for head, z in logits.items()]
    return torch.stack(losses).sum()


def example_scores(logits: Mapping[str, Tensor], batch: Mapping[str, Tensor], metric: str) -> Tensor:
    """One score per example, fp32 (B,).

    ``el2n``: the joint EL2N of arXiv 2306.03208, sqrt(s_intent² + Σ s_slot²).
    ``loss``: 0.5 · CE_intent + 0.5 · Σ CE_slot, the loss score of the authors' code (the plain
    cross-entropy when there is one head).
    """
    heads = [(z.detach(), batch[head]) for head, z in logits.items()]
    if metric == "el2n":
        return fastprune.joint_el2n(heads)
    parts: list[Any] = [fastprune.score(z, y, metric) for z, y in heads]
    parts = [p.sum(-1) if p.ndim == 2 else p for p in parts]
    return torch.stack(parts).sum(0) / len(parts)
