"""How good a model is on a split."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.evidence.data import source
from benchmarks.evidence.model import forward
from benchmarks.evidence.tokens import Prepared
from fastprune.app import quality as metrics
from fastprune.pruning.scoring import evaluation_mode

EVAL_BATCH = 128


def evaluate(model: nn.Module, prepared: Prepared, split: str, *, bf16: bool) -> dict[str, float]:
    """The metrics of the model on a split. `figure_name` says which of them is the data set's figure."""
    tokens = prepared.splits[split]
    intents, slots = predict(model, prepared, split, bf16=bf16)
    labels, tags = (intents, tokens.gold_intents), None if slots is None else (slots, tokens.gold_slots)
    names = ("intent_accuracy", "slot_f1", "exact_match") if prepared.joint else ("intent_accuracy", "exact_match")
    found = metrics.evaluate(names, labels=labels, tags=tags)
    if not prepared.joint:
        found = {"accuracy": found["intent_accuracy"]}
        if len(prepared.intent_names) == 2:
            found |= two_class_metrics(intents, tokens.gold_intents, positive=prepared.intent_names[1])
    return {name: round(value, 6) for name, value in found.items()}


def predict(
    model: nn.Module, prepared: Prepared, split: str, *, bf16: bool
) -> tuple[list[str], list[list[str]] | None]:
    """The most likely class of each text and, for joint data, the tag of each word. A word that was cut off has "O"."""
    tokens = prepared.splits[split]
    intents = [""] * len(tokens)
    slots: list[list[str]] = [[] for _ in range(len(tokens))]
    order = tokens.lengths.argsort(descending=True, stable=True)
    with evaluation_mode(model):
        for index in order.split(EVAL_BATCH):
            logits, _ = forward(model, tokens.batch(index), bf16=bf16)
            best = {head: z.argmax(-1).tolist() for head, z in logits.items()}
            for row, i in enumerate(index.tolist()):
                intents[i] = prepared.intent_names[best["intent"][row]]
                if tokens.first_tokens is not None and prepared.slot_names is not None:
                    tags = best["slots"][row]
                    slots[i] = [prepared.slot_names[tags[p]] if p >= 0 else "O" for p in tokens.first_tokens[i]]
    return intents, slots if prepared.joint else None


def answers(model: nn.Module, prepared: Prepared, split: str, *, bf16: bool) -> dict[str, Any]:
    """How many texts a split has, which the model got right, and with two classes which are positive, as `packed`.

    From these follow the figure of any resample of the split. Right means every slot, too.
    """
    tokens = prepared.splits[split]
    intents, slots = predict(model, prepared, split, bf16=bf16)
    right = [intent == gold for intent, gold in zip(intents, tokens.gold_intents, strict=True)]
    if slots is not None:
        right = [r and tags == gold for r, tags, gold in zip(right, slots, tokens.gold_slots, strict=True)]
    found: dict[str, Any] = {"texts": len(right), "right": packed(right)}
    if len(prepared.intent_names) == 2:
        found["positive"] = packed([gold == prepared.intent_names[1] for gold in tokens.gold_intents])
    return found


def packed(bits: Sequence[bool]) -> str:
    """Bits as text: base64 of bytes, the first bit of a byte first."""
    return base64.b64encode(np.packbits(np.array(bits, dtype=bool)).tobytes()).decode()


def unpacked(text: str, count: int) -> np.ndarray:
    """The first ``count`` bits of a `packed` text, as booleans."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=count).astype(bool)


def two_class_metrics(predicted: Sequence[str], gold: Sequence[str], positive: str) -> dict[str, float]:
    """F1 of the positive class and Matthews' correlation. They are 0 where they are not defined."""
    p = torch.tensor([label == positive for label in predicted])
    g = torch.tensor([label == positive for label in gold])
    tp, fp, fn, tn = (float(x.sum()) for x in (p & g, p & ~g, ~p & g, ~p & ~g))
    denominator = ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5
    return {
        "f1": 2 * tp / (2 * tp + fp + fn) if tp else 0.0,
        "matthews": (tp * tn - fp * fn) / denominator if denominator else 0.0,
    }


def figure_name(data: str) -> str:
    """The metric that a data set is judged by."""
    return source(data).metric
