"""Encoders under new heads: what the tasks of classes, numbers and tags bring to training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from fastprune.app.data.types import Split, TextData
from fastprune.app.finetune.encode import EncodedSplit, collator
from fastprune.app.finetune.encoder import load_encoder, longest_input
from fastprune.app.finetune.evaluate import LongestFirst, compact
from fastprune.app.finetune.model import build_model
from fastprune.app.finetune.spec import Training
from fastprune.app.finetune.train import RunTrainer
from fastprune.app.finetune.trust import Trust
from fastprune.app.finetune.written_model import write_model
from fastprune.app.report import RunFolder


class EncoderParts:
    """The parts of all tasks but language models, see `fastprune.app.finetune.parts.Parts`.

    Args:
        data: what is trained and tested on.
        model: a folder, a hub id, or None for the packaged MiniLM.
        training: how it is trained.
        trust: what may be executed of the model.

    Raises:
        UsageError: the model cannot be loaded.
    """

    trainer = RunTrainer
    own: Mapping[str, Any] = {}

    def __init__(self, data: TextData, model: str | None, training: Training, trust: Trust) -> None:
        self.data = data
        self.encoder, self.tokenizer, self.name = load_encoder(model, trust)
        self.length = longest_input(self.encoder, self.tokenizer, training.max_length)
        self.collate = collator(data.kind, self.tokenizer)
        self._initial = {name: value.clone() for name, value in self.encoder.state_dict().items()}

    def encode(self, split: Split, *, numbered: bool = False) -> EncodedSplit:
        """See `Parts`."""
        return EncodedSplit(self.data, split, self.tokenizer, self.length, numbered=numbered)

    def to_evaluate(self, split: Split) -> LongestFirst:
        """See `Parts`."""
        return LongestFirst(self.data, self.encode(split))

    def compact(self, answers: Any, labels: Any) -> Any:
        """See `Parts`."""
        return compact(self.data.kind, answers)

    def make_model(self) -> nn.Module:
        """Return the encoder as it was loaded, under new heads."""
        self.encoder.load_state_dict(self._initial, strict=False)
        found: nn.Module = build_model(self.encoder, self.data)
        return found

    def write_model(self, folder: RunFolder, run: Any, job: Any) -> None:
        """See `Parts`."""
        write_model(folder, run, self.tokenizer, job, self.length)
