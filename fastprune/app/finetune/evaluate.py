"""Turns a model's answers into labels and tags in the order of a split, and measures how good they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fastprune.app import quality
from fastprune.app.data.types import Label, Split
from fastprune.app.finetune.encode import EncodedExample, EncodedSplit, Names
from fastprune.app.finetune.parts import Examples

Encoded = TypeVar("Encoded", bound=Examples)


@dataclass(frozen=True)
class Predicted:
    """One entry for each example, or None where the task has no such answer.

    ``probabilities`` are those of the predicted class.  A word that was cut off is tagged "O".
    """

    labels: list[Label] | None = None
    probabilities: list[float] | None = None
    tags: list[list[str]] | None = None


class ByLength(Dataset[EncodedExample], Generic[Encoded]):
    """An encoded split in the order that evaluation reads it in, longest rows first.  Padding nearly vanishes."""

    def __init__(self, encoded: Encoded) -> None:
        self.encoded = encoded
        self.order = encoded.lengths.argsort(descending=True, stable=True).tolist()

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: int) -> EncodedExample:
        return self.encoded[self.order[index]]


class LongestFirst(ByLength[EncodedSplit]):
    """A split whose answers are classes, numbers or tags."""

    def __init__(self, names: Names, encoded: EncodedSplit) -> None:
        super().__init__(encoded)
        self.names = names

    def predicted(self, answers: Any) -> Predicted:
        """Return what the answers of `compact` say, as the Trainer has joined them."""
        if not isinstance(answers, tuple):
            answers = (answers,)
        labels, probabilities, tags = None, None, None
        if self.names.kind != "tokens":
            labels, probabilities = self._labels(self._in_order(answers[0]))
        if self.names.kind in ("tokens", "joint"):
            tags = self._tags(self._in_order(answers[-1]))
        return Predicted(labels, probabilities, tags)

    def measured(self, names: Sequence[str], answers: Any) -> dict[str, float]:
        """Return the quality measures of these names."""
        return measure(names, self.predicted(answers), self.encoded.split, getattr(self.names, "positive", None))

    def _in_order(self, rows: np.ndarray) -> np.ndarray:
        back = np.empty(len(self.order), dtype=np.int64)
        back[self.order] = np.arange(len(self.order))
        return rows[back]

    def _labels(self, logits: np.ndarray) -> tuple[list[Label], list[float] | None]:
        names = self.names.label_names
        if names is None:
            return [float(z) for z in logits.reshape(len(logits))], None
        if self.names.kind == "multi-label":
            return [tuple(sorted(names[c] for c in np.flatnonzero(row > 0))) for row in logits], None
        best = torch.from_numpy(logits).double().softmax(-1).max(-1)
        return [names[c] for c in best.indices.tolist()], best.values.tolist()

    def _tags(self, best: np.ndarray) -> list[list[str]]:
        names = self.names.tag_names or []
        places = self.encoded.first_tokens or []
        return [[names[row[p]] if p >= 0 else "O" for p in at] for row, at in zip(best, places, strict=True)]


def compact(kind: str, answers: Any) -> Any:
    """Return a batch's logits as evaluation keeps them.  Of tags these are only the most likely."""
    if kind == "joint":
        return answers[0], answers[1].argmax(-1)
    if isinstance(answers, (tuple, list)):
        answers = answers[0]
    return answers.argmax(-1) if kind == "tokens" else answers.float() if isinstance(answers, Tensor) else answers


def measure(names: Sequence[str], predicted: Predicted, gold: Split, positive: str | None) -> dict[str, float]:
    """The quality measures of these names, of predictions."""
    labels = None if predicted.labels is None or gold.labels is None else (predicted.labels, gold.labels)
    tags = None if predicted.tags is None or gold.tags is None else (predicted.tags, gold.tags)
    return quality.evaluate(names, labels=labels, tags=tags, positive=positive)


def by_class(predicted: Predicted, gold: Split) -> Mapping[str, Mapping[str, float]] | None:
    """Return precision, recall, F1 and support of each class.

    Data with tags alone have them by type of span.  Numbers have none.
    """
    if predicted.labels is not None and gold.labels is not None:
        numbers = any(isinstance(label, float) for label in gold.labels)
        return None if numbers else quality.per_class(predicted.labels, gold.labels)
    return None if predicted.tags is None or gold.tags is None else quality.per_span_type(predicted.tags, gold.tags)
