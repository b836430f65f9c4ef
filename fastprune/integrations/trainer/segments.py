"""The scores of the texts that packed rows hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer

from fastprune.integrations.batch_scoring import BatchScoring
from fastprune.integrations.trainer.scores import TrainerScores


def segment_scores(
    trainer: Trainer, metrics: Sequence[str] = ("el2n", "loss"), *, score_batch_size: int | None = None
) -> dict[str, Tensor]:
    """Score every text of a data set whose rows hold several, in one pass.  The model and the trainer stay as they are.

    `fastprune.attach` keeps or drops whole rows, because the rows are the examples of the data set.  These scores tell
    which texts are in them.

    Args:
        trainer: with a causal language model, such as TRL's ``SFTTrainer(args=SFTConfig(packing=True))``.
        metrics: names of metrics.
        score_batch_size: rows of a batch.  By default 4 × ``per_device_train_batch_size``.

    Returns:
        (S,) for each metric, and under "example" the row of each text.  Rows and their texts are in order.

    Raises:
        ValueError: the model is no causal language model with a usual head, or the batches do not tell the texts.
    """
    scores = TrainerScores(trainer, BatchScoring(score_batch_size=score_batch_size), tuple(metrics))
    parts = scores.segments(torch.arange(len(trainer.train_dataset)))  # type: ignore[arg-type]
    order = torch.cat([part["example"] for part in parts]).argsort(stable=True)
    found: dict[str, Any] = {}
    for name in ("example", *metrics):
        values = torch.cat([part[name] for part in parts])
        found[name] = values[order.to(values.device)]
    return found
