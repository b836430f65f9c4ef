"""Predictions of a model on a split, as text labels, and their metrics."""

from __future__ import annotations

from torch import nn
from torch.utils.data import DataLoader, Subset

from fastprune.data.types import TextData
from fastprune.finetune.encode import EncodedSplit, collator
from fastprune.finetune.metrics import evaluate_predictions
from fastprune.finetune.model import forward
from fastprune.pruning.scoring import evaluation_mode

EVAL_BATCH = 128


def predict(
    model: nn.Module, encoded: EncodedSplit, data: TextData, pad_token_id: int, *, bf16: bool
) -> tuple[list[str], list[list[str]] | None]:
    """The most likely intent of every text and, for joint data, the tag of every word, in split order.

    A word cut off by truncation is tagged "O".
    """
    order = encoded.lengths.argsort(descending=True, stable=True).tolist()
    loader = DataLoader(Subset(encoded, order), batch_size=EVAL_BATCH, collate_fn=collator(pad_token_id))
    intents = [""] * len(encoded)
    slots: list[list[str]] = [[] for _ in range(len(encoded))]
    with evaluation_mode(model):
        for batch in loader:
            logits, _ = forward(model, batch, bf16=bf16)
            best = {head: z.argmax(-1).cpu() for head, z in logits.items()}
            for row, index in enumerate(batch["index"].tolist()):
                intents[index] = data.intent_names[int(best["intent"][row])]
                if encoded.first_tokens is not None and data.slot_names is not None:
                    tags = best["slots"][row].tolist()
                    at = encoded.first_tokens[index]
                    slots[index] = [data.slot_names[tags[p]] if p >= 0 else "O" for p in at]
    return intents, slots if data.joint else None


def evaluate(
    model: nn.Module, encoded: EncodedSplit, data: TextData, pad_token_id: int, *, bf16: bool
) -> dict[str, float]:
    """Intent accuracy, slot span-F1 (joint data) and exact match on the split."""
    intents, slots = predict(model, encoded, data, pad_token_id, bf16=bf16)
    return evaluate_predictions(intents, encoded.split.intents, slots, encoded.split.slots)
