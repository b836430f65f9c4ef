"""Scores of a data set by a finetuned model, without training."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastprune.data.types import Split
from fastprune.dynamics import count_epochs, write_epoch
from fastprune.errors import UsageError
from fastprune.finetune.encode import EncodedSplit, collator
from fastprune.finetune.encoder import longest_input
from fastprune.finetune.finetuned import Finetuned
from fastprune.finetune.model import head_kinds, task_of
from fastprune.finetune.tables import identity_columns, label_column
from fastprune.pruning import score_dataset
from fastprune.scores.last_layer import LastLayers
from fastprune.scores.metrics import difficulty, lacking, needs_states, of_rows


def score_texts(
    finetuned: Finetuned,
    split: Split,
    metrics: Sequence[str],
    *,
    batch_size: int,
    max_length: int,
    bf16: bool,
    progress: Callable[[int], None],
    dynamics: Path | None = None,
) -> dict[str, np.ndarray]:
    """The metrics of labelled examples, in their order.

    Args:
        metrics: of `fastprune.score`, and ``grand``; of several heads as `fastprune.Task` joins them.
        progress: called with the number of examples of each finished batch.
        dynamics: folder to which the logits are added as the next epoch, see `fastprune.dynamics`.

    Returns:
        ``index``, ``row`` in the file, ``id`` if there is one, each metric (fp32), ``score``, which is the first
        metric, negated where small is hard, so that the largest are the hardest, and ``label``.

    Raises:
        UsageError: the task has no such metric, or no single class of each text, whose logits ``dynamics`` would hold.
    """
    finetuned, split = finetuned.fit(split)
    kind = finetuned.kind
    if dynamics is not None and kind not in ("classification", "joint"):
        raise UsageError(f"--dynamics holds the class of each text, and --model {finetuned.name} is for {kind}")
    missing = lacking(metrics, head_kinds(kind))
    if missing:
        there = " or ".join(of_rows("regression"))
        raise UsageError(f"--metrics {', '.join(missing)}: {kind} does not have it; choose {there}")
    length = longest_input(finetuned.model, finetuned.tokenizer, max_length)
    encoded = EncodedSplit(finetuned, split, finetuned.tokenizer, length, numbered=True)
    if encoded.truncated:
        print(f"note: {encoded.truncated} texts are longer than {length} tokens and were cut", file=sys.stderr)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, task = finetuned.model.to(device), task_of(kind)
    layers = LastLayers(model, wanted=needs_states(metrics))
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def scores_of(batch: Any) -> Mapping[str, Tensor]:
        fields = {name: value.to(device) for name, value in batch.items()}
        index = fields.pop("index")
        with layers.watch(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            outputs = model(**fields)
        if dynamics is not None:
            seen.append((index, outputs["logits"], fields["labels"]))
        return task.scores(outputs, fields, metrics, layers.features(task.logits(outputs)))

    found = score_dataset(
        model,
        encoded,
        scores_of,
        lengths=encoded.lengths,
        batch_size=batch_size,
        collate_fn=collator(kind, finetuned.tokenizer),
        progress=progress,
    )
    if dynamics is not None:
        index, logits, gold = (torch.cat(part).cpu() for part in zip(*seen, strict=True))
        order = index.argsort()
        write_epoch(dynamics, count_epochs(dynamics), index[order], logits[order], gold[order])
    columns = {metric: found[metric].cpu().numpy() for metric in metrics}
    return {
        "index": np.arange(len(encoded)),
        **identity_columns(split),
        **columns,
        "score": difficulty(metrics[0], columns[metrics[0]]),
        "label": label_column(split.labels, split.tags),
    }
