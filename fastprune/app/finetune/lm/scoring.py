"""Scores of tokens and examples of a language model, from its hidden states: no matrix of logits is made."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastprune import linear_score
from fastprune.app.data.types import CAUSAL_LM, Split
from fastprune.app.finetune.lm.encode import EncodedTurns, collator
from fastprune.app.finetune.lm.model import LanguageModel, longest_row
from fastprune.app.finetune.tables import identity_columns
from fastprune.errors import UsageError
from fastprune.integrations.causal_lm import counted_tokens, example_scores, hidden_states, output_head
from fastprune.pruning import score_dataset
from fastprune.scores.metrics import difficulty, of_rows

METRICS = ("el2n", "loss", "entropy")
"""What is computed where the user names nothing."""
TOKEN_IDS, OF_TOKENS = "token_ids", "{}_tokens"
"""The columns of lists: the learned tokens, and their scores by metric."""


def token_scores(model: Any, fields: Mapping[str, Tensor], metrics: Sequence[str]) -> tuple[dict[str, Tensor], Tensor]:
    """Return the metrics of each token of a batch, (B, T) at the position before it, and which tokens are learned.

    The backbone runs once, and the head is applied to learned tokens inside `fastprune.linear_score`.
    """
    hidden, head, labels = hidden_states(model, fields), output_head(model), fields["labels"]
    found = linear_score(
        hidden,
        head.weight.to(hidden.dtype),
        labels,
        list(metrics),
        bias=None if head.bias is None else head.bias.to(hidden.dtype),
        softcap=head.softcap,
        logit_scale=head.logit_scale,
        shift=1,
    )
    return found, counted_tokens(labels)


def score_turns(
    lm: LanguageModel,
    split: Split,
    metrics: Sequence[str],
    *,
    batch_size: int,
    max_length: int,
    bf16: bool,
    tokens: bool,
    progress: Callable[[int], None],
) -> dict[str, Any]:
    """Return the metrics of examples, in their order.

    Args:
        lm: the model.
        split: the examples.
        metrics: those of `fastprune.score`.
        batch_size: of the pass.
        max_length: tokens that an example is cut to.
        bf16: whether to use autocast.
        tokens: whether to return lists of the learned tokens and their scores, too.
        progress: called with the number of examples of each finished batch.

    Returns:
        ``index``, ``row`` in the file, ``id`` if there is one, each metric (fp32), ``perplexity`` beside the loss,
            ``tokens`` and ``score``.  ``tokens`` is how many are learned.  ``score`` is the first metric, negated
            where small is hard, so that the largest are the hardest.

    Raises:
        UsageError: a language model has no such metric.
    """
    check_metrics(metrics)
    length = longest_row(lm.model, lm.tokenizer, max_length)
    encoded = EncodedTurns(split, lm.tokenizer, length, numbered=True)
    if encoded.truncated:
        print(f"note: {encoded.truncated} rows are longer than {length} tokens and were cut", file=sys.stderr)
    lists: dict[int, dict[str, np.ndarray]] = {}
    found = score_dataset(
        lm.model,
        encoded,
        _batch_scorer(lm.model, metrics, bf16, lists if tokens else None),
        lengths=encoded.lengths,
        batch_size=batch_size,
        collate_fn=collator(lm.tokenizer),
        progress=progress,
    )
    columns = {metric: found[metric].cpu().numpy() for metric in metrics}
    if "loss" in columns:
        columns["perplexity"] = np.exp(columns["loss"].astype(np.float64)).astype(np.float32)
    return {
        "index": np.arange(len(encoded)),
        **identity_columns(split),
        **columns,
        "tokens": found["tokens"].cpu().numpy().astype(np.int64),
        "score": difficulty(metrics[0], columns[metrics[0]]),
        **{name: [lists[i][name] for i in range(len(encoded))] for name in (lists[0] if tokens else ())},
    }


def check_metrics(metrics: Sequence[str]) -> None:
    """Refuse metrics that cannot be computed from hidden states.

    Raises:
        UsageError: the message says which there are.
    """
    there = of_rows("causal_lm")
    missing = [name for name in metrics if name not in there]
    if missing:
        raise UsageError(f"--metrics {', '.join(missing)}: {CAUSAL_LM} does not have it; choose {', '.join(there)}")


def _batch_scorer(
    model: Any, metrics: Sequence[str], bf16: bool, lists: dict[int, dict[str, np.ndarray]] | None
) -> Callable[[Any], Mapping[str, Tensor]]:
    """Return a function that scores a collated batch, and adds the scores of its tokens to ``lists`` if that is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)

    def scores_of(batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        fields = {name: value.to(device) for name, value in batch.items()}
        index = fields.pop("index").tolist()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            scores, valid = token_scores(model, fields, metrics)
        if lists is not None:
            following = torch.roll(fields["labels"], -1, dims=1)
            rows = {TOKEN_IDS: following, **{OF_TOKENS.format(name): values for name, values in scores.items()}}
            for place, i in enumerate(index):
                lists[i] = {name: values[place][valid[place]].cpu().numpy() for name, values in rows.items()}
        return {**example_scores(scores, valid), "tokens": valid.sum(1)}

    return scores_of
