"""Judges a language model: loss and perplexity of the learned tokens, and answers that it writes itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastprune.app.finetune.encode import EncodedExample
from fastprune.app.finetune.evaluate import ByLength
from fastprune.app.finetune.lm.answers import same_answer
from fastprune.app.finetune.lm.encode import EncodedTurns
from fastprune.app.finetune.lm.scoring import token_scores

ANSWER_TOKENS = 256
"""An answer has so many tokens at most."""


class TurnsToEvaluate(ByLength[EncodedTurns]):
    """A split whose answers are texts.

    Args:
        encoded: the split.
        tokenizer: the model's.
        answers: whether the model is to write the answers itself.
    """

    def __init__(self, encoded: EncodedTurns, tokenizer: Any, *, answers: bool = False) -> None:
        super().__init__(encoded)
        self.tokenizer, self.answers = tokenizer, answers

    def __getitem__(self, index: int) -> EncodedExample:
        return {**super().__getitem__(index), "index": self.order[index]}

    def gold(self, index: int) -> str:
        """Return the true answer of an example."""
        turns = (self.encoded.split.turns or [])[index]
        return turns[-1].text

    def measured(self, names: Sequence[str], rows: np.ndarray) -> dict[str, float]:
        """Return the quality measures of what `judged` found in all batches."""
        loss = float(rows[:, 0].sum() / max(1.0, rows[:, 1].sum()))
        found = {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), "exact_answer": float(rows[:, 2].mean())}
        return {name: found[name] for name in names}


def judged(model: Any, split: TurnsToEvaluate, fields: Mapping[str, Tensor], index: Tensor) -> Tensor:
    """Return the summed loss of each example of a batch, its learned tokens, and whether its answer is right, (B, 3).

    Args:
        model: in eval mode.
        split: what the batch is of.
        fields: the batch.
        index: (B,) which examples it holds.
    """
    scores, valid = token_scores(model, fields, ["loss"])
    right = torch.zeros(len(index), dtype=torch.float64, device=valid.device)
    if split.answers:
        places = index.tolist()
        begins = [max(1, split.encoded.encoded[i].begin) for i in places]
        written = _written(model, fields["input_ids"], begins, split.tokenizer)
        found = [same_answer(text, split.gold(i)) for text, i in zip(written, places, strict=True)]
        right = torch.tensor(found, dtype=torch.float64, device=valid.device)
    return torch.stack([scores["loss"].double().sum(-1), valid.sum(-1).double(), right], dim=-1)


def _written(model: Any, ids: Tensor, begins: Sequence[int], tokenizer: Any) -> list[str]:
    """Return what the model writes, token by token the likeliest, behind the first ``begins`` tokens of each row."""
    from transformers import GenerationConfig

    width = max(begins)
    prompts = torch.full((len(ids), width), tokenizer.pad_token_id, device=ids.device)
    attention = torch.zeros_like(prompts)
    for row, begin in enumerate(begins):
        prompts[row, width - begin :], attention[row, width - begin :] = ids[row, :begin], 1
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None) or width + ANSWER_TOKENS
    config = GenerationConfig(
        max_new_tokens=max(1, min(ANSWER_TOKENS, positions - width)),
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=_ends(model, tokenizer),
        bos_token_id=tokenizer.bos_token_id,
    )
    found = model.generate(input_ids=prompts, attention_mask=attention, generation_config=config)
    texts: list[str] = tokenizer.batch_decode(found[:, width:], skip_special_tokens=True)
    return texts


def _ends(model: Any, tokenizer: Any) -> list[int]:
    """Return the tokens that end an answer: the tokenizer's, and those of the model's own configuration."""
    own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return sorted({tokenizer.eos_token_id, *(own if isinstance(own, list) else [] if own is None else [own])})
