"""The model of a run: MiniLM with some of its layers, rounded to bf16, under fresh heads."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from benchmarks.evidence.model import JointModel
from benchmarks.evidence.tokens import Prepared
from fastprune.app.finetune.encoder import load_encoder


def read_encoder(source: str | None) -> tuple[nn.Module, Any]:
    """(encoder, tokenizer) of a model folder. None means the packaged MiniLM.

    The weights are rounded to bf16, so that a model folder in bf16 gives the same run as one in fp32.
    """
    encoder, tokenizer, _ = load_encoder(source)
    if hasattr(encoder, "pooler"):
        encoder.pooler = None  # `JointModel` takes the mean of the last states
    return round_to_bf16(encoder), tokenizer


def round_to_bf16(model: nn.Module) -> nn.Module:
    """Round every weight to the nearest bf16 number, in place. The weights stay fp32."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(torch.bfloat16))
    return model


def make_model(encoder: nn.Module, layers: Sequence[int], prepared: Prepared, seed: int) -> JointModel:
    """A model on the CPU with the ``layers`` of the encoder, and heads drawn from ``seed``.

    It sets the global random state to ``seed``, and the run's dropout follows from it.
    """
    part: Any = copy.deepcopy(encoder)
    part.encoder.layer = nn.ModuleList(part.encoder.layer[i] for i in layers)
    words = part.embeddings.word_embeddings.weight.detach()
    part.embeddings.word_embeddings = nn.Embedding.from_pretrained(
        words[prepared.vocabulary].clone(), freeze=False, padding_idx=prepared.pad
    )
    torch.manual_seed(seed)
    n_slots = None if prepared.slot_names is None else len(prepared.slot_names)
    model = JointModel(part, len(prepared.intent_names), n_slots)
    round_to_bf16(model)
    return model
