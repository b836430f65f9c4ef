"""Scores of a data set by a finetuned model, without training."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fastprune.data.types import TextData
from fastprune.dynamics import count_epochs, write_epoch
from fastprune.errors import UsageError
from fastprune.finetune.encode import EncodedSplit, collator
from fastprune.finetune.encoder import longest_input
from fastprune.finetune.finetuned import Finetuned
from fastprune.finetune.model import batch_scores
from fastprune.pruning import score_dataset
from fastprune.score_files import SHRINKING


def score_texts(
    finetuned: Finetuned,
    data: TextData,
    metrics: Sequence[str],
    *,
    batch_size: int,
    max_length: int,
    bf16: bool,
    progress: Callable[[int], None],
    dynamics: Path | None = None,
) -> dict[str, np.ndarray]:
    """The training examples' metrics, in the order of the data.

    Args:
        data: as `Finetuned.fit` returns it.
        metrics: of `fastprune.score`, and ``grand``; for several heads as `fastprune.finetune.model.example_scores`.
        progress: called with the number of examples of each finished batch.
        dynamics: folder to which the logits are added as the next epoch, see `fastprune.dynamics`.

    Returns:
        ``index``, each metric (fp32), ``score``, which is the first metric, negated where small is hard, so that the
        largest are the hardest, and ``label``.

    Raises:
        UsageError: the model has no head for one label an example, whose logits ``dynamics`` would hold.
    """
    if dynamics is not None and finetuned.intents is None:
        raise UsageError(f"--dynamics holds one label an example, and --model {finetuned.name} answers for words")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = finetuned.model.to(device)
    length = longest_input(finetuned, finetuned.tokenizer, max_length)
    encoded = EncodedSplit(data, data.train, finetuned.tokenizer, length)
    if encoded.truncated:
        print(f"note: {encoded.truncated} texts are longer than {length} tokens and were cut", file=sys.stderr)
    of_batch = batch_scores(model, metrics, bf16=bf16)
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def scores_of(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        scores, logits = of_batch(batch)
        if dynamics is not None:
            seen.append((batch["index"], logits["intent"], batch["intent"]))
        return scores

    found = score_dataset(
        model,
        encoded,
        scores_of,
        lengths=encoded.lengths,
        batch_size=batch_size,
        collate_fn=collator(finetuned.tokenizer.pad_token_id),
        progress=progress,
    )
    if dynamics is not None:
        index, logits, gold = (torch.cat(part) for part in zip(*seen, strict=True))
        order = index.argsort()
        write_epoch(dynamics, count_epochs(dynamics), index[order], logits.cpu()[order], gold[order])
    columns = {metric: found[metric].cpu().numpy() for metric in metrics}
    return {
        "index": np.arange(len(encoded)),
        **columns,
        "score": -columns[metrics[0]] if metrics[0] in SHRINKING else columns[metrics[0]],
        "label": np.array(data.train.intents, dtype=object),
    }
