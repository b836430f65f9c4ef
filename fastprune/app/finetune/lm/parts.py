"""What language models bring to training, see `fastprune.app.finetune.parts.Parts`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastprune.app.data.types import Split, TextData
from fastprune.app.finetune.lm.answers import check_answers
from fastprune.app.finetune.lm.encode import EncodedTurns, check_template, collator
from fastprune.app.finetune.lm.evaluate import TurnsToEvaluate, judged
from fastprune.app.finetune.lm.model import adapted, check_lora, load_language_model, longest_row
from fastprune.app.finetune.ranks import first
from fastprune.app.finetune.spec import Training
from fastprune.app.finetune.train import RunTrainer
from fastprune.app.finetune.trust import Trust
from fastprune.app.report import RunFolder
from fastprune.app.report.folder import MODEL
from fastprune.files.atomic import write_folder_atomic

EVALUATION_FACTOR = 2
"""Evaluation reads so many training batches at once: no gradients are kept, and no logits are made."""
ADAPTER = "adapter"
"""The folder in ``model/`` with the adapters alone."""


class LanguageModelTrainer(RunTrainer):
    """A `RunTrainer` that counts tokens, and evaluates from hidden states."""

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Count the batch's tokens, padding apart, and do the step."""
        self.recorder.count_tokens(inputs["attention_mask"].sum())
        return super().training_step(model, inputs, *args, **kwargs)

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, Any, Any]:
        """Return what `judged` says of the batch, in place of logits."""
        index = inputs["index"]
        fields = self._prepare_inputs({name: value for name, value in inputs.items() if name != "index"})
        bare = self.accelerator.unwrap_model(model)
        device = fields["input_ids"].device
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self.args.bf16):
            rows = judged(bare, self.evaluated, fields, index)
        return None, rows, fields["labels"][:, :1]


class LanguageModelParts:
    """The parts of a language model.

    Args:
        data: what is trained and tested on.
        model: a folder, a hub id, or None for a tiny model made of the data.
        training: how it is trained.
        trust: what may be executed of the model.

    Raises:
        UsageError: the model cannot be loaded, or an answer that is to be compared is missing.
    """

    trainer = LanguageModelTrainer
    compact = None

    def __init__(self, data: TextData, model: str | None, training: Training, trust: Trust) -> None:
        check_lora(training.lora)
        self.answers = "exact_answer" in data.metrics
        for name, split in data.held_out.items() if self.answers else ():
            check_answers(name, split)
        self.model, self.tokenizer, self.name = load_language_model(model, data.train, trust)
        for split in (data.train, *data.held_out.values()):
            check_template(split.turns or [], self.tokenizer)
        self.length = longest_row(self.model, self.tokenizer, training.max_length)
        self.collate = collator(self.tokenizer)
        self.rank = training.lora
        self.own: Mapping[str, Any] = {"per_device_eval_batch_size": EVALUATION_FACTOR * training.batch_size}

    def encode(self, split: Split, *, numbered: bool = False) -> EncodedTurns:
        """See `Parts`."""
        return EncodedTurns(split, self.tokenizer, self.length, numbered=numbered)

    def to_evaluate(self, split: Split) -> TurnsToEvaluate:
        """See `Parts`."""
        return TurnsToEvaluate(self.encode(split), self.tokenizer, answers=self.answers)

    def make_model(self) -> nn.Module:
        """Return a copy of the model as it was loaded, or the model itself under new adapters if these are trained.

        It is a copy, because accelerate prepares a model for bf16 only once.
        """
        if self.rank is None:
            found: nn.Module = copy.deepcopy(self.model)
            return found
        self.model = adapted(self.model, self.rank)
        return self.model

    def write_model(self, folder: RunFolder, run: Any, job: Any) -> None:
        """Write the model with its tokenizer.  Adapters are merged into it, and kept beside it."""
        if not first():
            return
        model = run.model

        def save(temporary: Path) -> None:
            if self.rank is not None:
                model.save_pretrained(temporary / ADAPTER)
            (model if self.rank is None else model.merge_and_unload()).save_pretrained(temporary)
            self.tokenizer.save_pretrained(temporary)

        write_folder_atomic(folder.path / MODEL, save)
