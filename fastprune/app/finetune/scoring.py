"""Scores a data set by a finetuned model, without training."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastprune.app.data.types import Split
from fastprune.app.dynamics import BatchLogits, count_epochs, write_epoch
from fastprune.app.finetune.encode import EncodedSplit, collator
from fastprune.app.finetune.encoder import longest_input
from fastprune.app.finetune.finetuned import Finetuned
from fastprune.app.finetune.model import head_kinds, task_of
from fastprune.app.finetune.tables import identity_columns, label_column
from fastprune.errors import UsageError
from fastprune.pruning import score_dataset
from fastprune.scores import LastLayers
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
    """Return the metrics of labelled examples, in their order.

    Args:
        finetuned: the model.
        split: the examples.
        metrics: those of `fastprune.score`, and ``grand``.  `fastprune.Task` joins those of several heads.
        batch_size: batch size of the pass.
        max_length: tokens that a text is cut to.
        bf16: whether to use autocast.
        progress: called with the number of examples of each finished batch.
        dynamics: folder to which the logits are added as the next epoch, see `fastprune.app.dynamics`.

    Returns:
        ``index``, ``row`` in the file, ``id`` if there is one, each metric (fp32), ``score`` and ``label``.  ``score``
            is the first metric, negated where small is hard, so that the largest are the hardest.

    Raises:
        UsageError: the task has no such metric.  Or it has no single class of each text, whose logits ``dynamics``
            would hold.
    """
    finetuned, split = finetuned.fit(split)
    _check_kind(finetuned, metrics, dynamics)
    encoded = _encoded(finetuned, split, max_length)
    seen: list[BatchLogits] | None = None if dynamics is None else []
    found = score_dataset(
        finetuned.model,
        encoded,
        _batch_scorer(finetuned, metrics, bf16, seen),
        lengths=encoded.lengths,
        batch_size=batch_size,
        collate_fn=collator(finetuned.kind, finetuned.tokenizer),
        progress=progress,
    )
    if dynamics is not None:
        _write_dynamics(dynamics, seen or [])
    columns = {metric: found[metric].cpu().numpy() for metric in metrics}
    return {
        "index": np.arange(len(encoded)),
        **identity_columns(split),
        **columns,
        "score": difficulty(metrics[0], columns[metrics[0]]),
        "label": label_column(split.labels, split.tags),
    }


def _check_kind(finetuned: Finetuned, metrics: Sequence[str], dynamics: Path | None) -> None:
    """Refuse what the model's task does not have."""
    kind = finetuned.kind
    if dynamics is not None and kind not in ("classification", "joint"):
        raise UsageError(f"--dynamics holds the class of each text, and --model {finetuned.name} is for {kind}")
    missing = lacking(metrics, head_kinds(kind))
    if missing:
        there = " or ".join(of_rows("regression"))
        raise UsageError(f"--metrics {', '.join(missing)}: {kind} does not have it; choose {there}")


def _encoded(finetuned: Finetuned, split: Split, max_length: int) -> EncodedSplit:
    """Return the texts as tokens.  A note says if some were cut."""
    length = longest_input(finetuned.model, finetuned.tokenizer, max_length)
    encoded = EncodedSplit(finetuned, split, finetuned.tokenizer, length, numbered=True)
    if encoded.truncated:
        print(f"note: {encoded.truncated} texts are longer than {length} tokens and were cut", file=sys.stderr)
    return encoded


def _batch_scorer(
    finetuned: Finetuned, metrics: Sequence[str], bf16: bool, seen: list[BatchLogits] | None
) -> Callable[[Any], Mapping[str, Tensor]]:
    """Return a function that scores a collated batch, on the GPU if there is one.

    It adds the batch's logits to ``seen`` if that is a list.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, task = finetuned.model.to(device), task_of(finetuned.kind)
    layers = LastLayers(model, wanted=needs_states(metrics))

    def scores_of(batch: Any) -> Mapping[str, Tensor]:
        fields = {name: value.to(device) for name, value in batch.items()}
        index = fields.pop("index")
        with layers.watch(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            outputs = model(**fields)
        if seen is not None:
            seen.append((index, outputs["logits"], fields["labels"]))
        return task.scores(outputs, fields, metrics, layers.features(task.logits(outputs)))

    return scores_of


def _write_dynamics(folder: Path, seen: Sequence[BatchLogits]) -> None:
    """The logits of all batches as the folder's next epoch."""
    index, logits, gold = (torch.cat(part).cpu() for part in zip(*seen, strict=True))
    order = index.argsort()
    write_epoch(folder, count_epochs(folder), index[order], logits[order], gold[order])
