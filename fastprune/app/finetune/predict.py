"""Predictions of a finetuned model for a file."""

from __future__ import annotations

import sys
import tempfile
from typing import Any

import numpy as np
import torch
from transformers import Trainer, TrainingArguments

from fastprune.app.data.types import Split
from fastprune.app.finetune.encode import EncodedSplit, collator
from fastprune.app.finetune.encoder import longest_input
from fastprune.app.finetune.evaluate import LongestFirst, Predicted, compact
from fastprune.app.finetune.finetuned import Finetuned, without_labels
from fastprune.app.finetune.tables import prediction_columns
from fastprune.errors import UsageError


def predict(trainer: Trainer, split: LongestFirst) -> Predicted:
    """Return what the trainer's model predicts of a split."""
    trainer.compute_metrics = None
    return split.predicted(trainer.predict(split).predictions)


def predict_texts(
    finetuned: Finetuned, split: Split, *, batch_size: int, max_length: int, bf16: bool
) -> dict[str, np.ndarray]:
    """Return the columns of a file of predictions, see `prediction_columns`.  Labels of the split are not read.

    Raises:
        UsageError: the model predicts tags, and the texts come in pairs.
    """
    if finetuned.tag_names is not None and split.pairs is not None:
        raise UsageError(f"--model {finetuned.name} predicts a tag for each word of one text; leave out --pair-column")
    length = longest_input(finetuned.model, finetuned.tokenizer, max_length)
    encoded = EncodedSplit(finetuned, without_labels(split), finetuned.tokenizer, length)
    if encoded.truncated:
        print(f"note: {encoded.truncated} texts are longer than {length} tokens and were cut", file=sys.stderr)
    cuda = torch.cuda.is_available()

    def answers(logits: Any, labels: Any) -> Any:
        return compact(finetuned.kind, logits)

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_eval_batch_size=batch_size,
            bf16=bf16,
            use_cpu=not cuda,
            dataloader_pin_memory=cuda,
            remove_unused_columns=False,
            report_to="none",
            disable_tqdm=True,
        )
        arguments._n_gpu = min(1, arguments.n_gpu)
        trainer = Trainer(
            finetuned.model,
            arguments,
            data_collator=collator(finetuned.kind, finetuned.tokenizer),
            preprocess_logits_for_metrics=answers,
        )
        return prediction_columns(split, predict(trainer, LongestFirst(finetuned, encoded)))
