"""The shape every reader hands over: texts with labels, numbers, or tags for each word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Kind = Literal["classification", "multi-label", "regression", "tokens", "joint", "causal-lm"]
"""What is predicted.

It is one class, any number of classes, a number, a tag for each word, class and tags, or the next token.
"""
CAUSAL_LM: Kind = "causal-lm"
UNMEASURED: tuple[Kind, ...] = ("regression", "multi-label", CAUSAL_LM)
"""Kinds for which nobody has measured what scores are worth."""

Label = str | float | tuple[str, ...]
"""The label of one example: its class, its number, or its classes in sorted order."""


class Turn(NamedTuple):
    """A part of what a language model reads.

    Its role is that of a message, or "prompt", "completion" or "text" in data without messages.
    """

    role: str
    text: str


@dataclass(frozen=True)
class Split:
    """N examples.  Every list that is given has length N.

    Attributes:
        texts: one text each.  Where there are tags, its words are separated by exactly one blank.
        labels: texts (classes), floats (numbers) or tuples (several classes).  None without such a label.
        tags: BIO tags, one for each ``text.split(" ")`` word.  None without tags.
        pairs: the second text of each example (paraphrase and inference data).
        rows: the row of each example in its file, from 0.  None means 0 … N - 1.
        ids: what the file's id column says of each example.  None without one.
        turns: what a language model reads, all of it.  Then ``texts`` are the questions alone.  None for other tasks.
    """

    texts: list[str]
    labels: Sequence[Label] | None
    tags: list[list[str]] | None = None
    pairs: list[str] | None = None
    rows: list[int] | None = None
    ids: list[str] | None = None
    turns: list[tuple[Turn, ...]] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, indices: Sequence[int]) -> Split:
        """Return the examples at ``indices``, in that order.  They keep their rows."""

        def of(column):  # type: ignore[no-untyped-def]
            return None if column is None else [column[i] for i in indices]

        columns = (self.texts, self.labels, self.tags, self.pairs, self.row_numbers, self.ids, self.turns)
        return Split(*map(of, columns))

    @property
    def row_numbers(self) -> Sequence[int]:
        """The row of each example in its file, from 0."""
        return range(len(self)) if self.rows is None else self.rows

    @property
    def unlabelled(self) -> bool:
        """True where there is nothing to compare a prediction with."""
        return self.labels is None and self.tags is None and self.turns is None

    @property
    def kind(self) -> Kind:
        """What is predicted, which follows from the labels.  None for an unlabelled split."""
        if self.turns is not None:
            return CAUSAL_LM
        if self.tags is not None:
            return "tokens" if self.labels is None else "joint"
        if self.labels is None:
            raise ValueError("an unlabelled split is of no kind")
        first = self.labels[0] if self.labels else ""
        if isinstance(first, tuple):
            return "multi-label"
        return "classification" if isinstance(first, str) else "regression"


@dataclass(frozen=True)
class TextData:
    """A data set ready for training.  Make one with `fastprune.app.data.build`.

    Attributes:
        name: the name that tables show.
        kind: what is predicted.
        train: what is trained on.
        held_out: the labelled other splits by name, such as "validation", "validation_mismatched", "test".
        reported: names of the held-out splits that tables report, the deciding one first.
        unlabelled: other splits without labels by name, for predictions.
        metrics: quality measures of `fastprune.app.quality`, the deciding one first.
        label_names: classes seen in train, sorted, whole numbers by size; None for numbers, tags and language models.
        positive: the class whose F1 is the measure ``f1``; None but for two classes.
        tag_names: tags seen in train, "O" first, then sorted; None without tags.
        unseen: what held-out splits have and train has not, which no model can get right:
            ``{"label": {class: examples}, "tag": {tag: words}}``, counted over all of them.
        fingerprint: SHA-256 (hex) of the train split's content and order.
        notes: what was decided while reading, one sentence each, to be shown once.
        source: the file or folder that ``train.rows`` count in.  None for packaged data.
    """

    name: str
    kind: Kind
    train: Split
    held_out: Mapping[str, Split]
    reported: tuple[str, ...]
    unlabelled: Mapping[str, Split]
    metrics: tuple[str, ...]
    label_names: list[str] | None
    positive: str | None
    tag_names: list[str] | None
    unseen: dict[str, dict[str, int]]
    fingerprint: str
    notes: tuple[str, ...] = ()
    source: str | None = None

    @property
    def test(self) -> Split:
        """The split whose deciding measure decides."""
        return self.held_out[self.reported[0]]

    @property
    def validation(self) -> str | None:
        """The name of the split that chooses the best epoch.  None without one."""
        return next((name for name in self.held_out if name.startswith("validation")), None)
