"""The shape every reader hands over: texts with labels, numbers, or tags for each word.

`build` is the only way to make a `TextData`, so the checks and what follows from the data (task, label lists, unseen
labels, fingerprint) live in one place.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fastprune.errors import UsageError, shown

Kind = Literal["classification", "multi-label", "regression", "tokens", "joint"]
"""What is predicted: one class, any number of classes, a number, a tag for each word, or class and tags."""

Label = str | float | tuple[str, ...]
"""Of one example: its class, its number, or its classes in sorted order."""


@dataclass(frozen=True)
class Split:
    """N examples; every list that is given has length N.

    Attributes:
        texts: one text each; where there are tags, its words are separated by exactly one blank.
        labels: all texts (classes), all floats (numbers) or all tuples (several classes); None without such a label.
        tags: BIO tags, one for each ``text.split(" ")`` word; None without tags.
        pairs: the second text of each example (paraphrase and inference data).
        rows: the row of each example in its file, from 0; None: 0 … N - 1.
        ids: what the file's id column says of each example; None without one.
    """

    texts: list[str]
    labels: Sequence[Label] | None
    tags: list[list[str]] | None = None
    pairs: list[str] | None = None
    rows: list[int] | None = None
    ids: list[str] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, indices: Sequence[int]) -> Split:
        """The examples at ``indices``, in that order; they keep their rows."""

        def of(column):  # type: ignore[no-untyped-def]
            return None if column is None else [column[i] for i in indices]

        return Split(of(self.texts), of(self.labels), of(self.tags), of(self.pairs), of(self.row_numbers), of(self.ids))

    @property
    def row_numbers(self) -> Sequence[int]:
        """The row of each example in its file, from 0."""
        return range(len(self)) if self.rows is None else self.rows

    @property
    def unlabelled(self) -> bool:
        """True where there is nothing to compare a prediction with."""
        return self.labels is None and self.tags is None

    @property
    def kind(self) -> Kind:
        """What is predicted, by what the labels are; an unlabelled split has none."""
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
    """A data set ready for training; make one with `build`.

    Attributes:
        name: as tables show it.
        kind: what is predicted.
        train: what is trained on.
        held_out: the labelled other splits by name, such as "validation", "validation_mismatched", "test".
        reported: names of the held-out splits that tables report, the deciding one first.
        unlabelled: other splits without labels by name, for predictions.
        metrics: names in `fastprune.metrics`, the deciding one first.
        label_names: classes seen in train, sorted, whole numbers by size; None for numbers and tags alone.
        positive: the class whose F1 is the metric ``f1``; None but for two classes.
        tag_names: tags seen in train, "O" first, then sorted; None without tags.
        unseen: what held-out splits have and train has not, which no model can get right:
            ``{"label": {class: examples}, "tag": {tag: words}}``, counted over all of them.
        fingerprint: SHA-256 (hex) of the train split's content and order.
        notes: what was decided while reading, one sentence each, to be shown once.
        source: the file or folder that ``train.rows`` count in; None for packaged data.
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
        """The split whose deciding metric decides."""
        return self.held_out[self.reported[0]]

    @property
    def validation(self) -> str | None:
        """The name of the split that chooses the best epoch; None without one."""
        return next((name for name in self.held_out if name.startswith("validation")), None)

    def limit(self, n_train: int, seed: int = 0) -> TextData:
        """Keep ``n_train`` random training examples in their old order; other splits stay whole."""
        if n_train < 1:
            raise UsageError(f"n_train={n_train} leaves nothing to train on: give a number of 1 or more.")
        return self if n_train >= len(self.train) else self.train_on(_draw(len(self.train), n_train, seed))

    def limit_held_out(self, most: int, seed: int = 0) -> TextData:
        """At most ``most`` random examples of every other split, in their old order."""
        if most < 1:
            raise UsageError(f"max_test={most} leaves nothing to test on: give a number of 1 or more.")

        def cut(split: Split) -> Split:
            return split if most >= len(split) else split.select(_draw(len(split), most, seed))

        held_out = {name: cut(split) for name, split in self.held_out.items()}
        unlabelled = {name: cut(split) for name, split in self.unlabelled.items()}
        return self._rebuilt(self.train, held_out, unlabelled)

    def train_on(self, indices: Sequence[int]) -> TextData:
        """With the training examples at ``indices`` alone."""
        return self._rebuilt(self.train.select(indices), self.held_out, self.unlabelled)

    def _rebuilt(self, train: Split, held_out: Mapping[str, Split], unlabelled: Mapping[str, Split]) -> TextData:
        new = build(
            self.name,
            train,
            held_out,
            unlabelled=unlabelled,
            metrics=self.metrics,
            reported=self.reported,
            positive=self.positive,
        )
        return replace(new, notes=self.notes, source=self.source)


def build(
    name: str,
    train: Split,
    held_out: Mapping[str, Split],
    *,
    unlabelled: Mapping[str, Split] | None = None,
    metrics: Sequence[str] = (),
    reported: Sequence[str] = (),
    positive: str | None = None,
) -> TextData:
    """Check the splits against one another and derive the rest.

    Args:
        held_out: labelled splits by name; tables report those called "test…", or all of them if there is none.
        unlabelled: splits without labels by name.
        metrics: names in `fastprune.metrics`, the deciding one first; by default those of the task.
        reported: names in ``held_out``, in place of the rule above.
        positive: of two classes the one whose F1 counts; by default the last.

    Raises:
        UsageError: an empty split, columns of different lengths, an empty text or class, a number that is not finite,
            tags that do not fit the words, or splits of different kinds.  It names split and example, counted from 1.
    """
    from fastprune.metrics import metrics_of  # here, because it names the kinds by this module

    if not held_out:
        raise UsageError(f"{name}: nothing labelled to test on; give a validation or a test split.")
    _check_split(f"{name}, train", train)
    if train.unlabelled:
        raise UsageError(f"{name}: the train split has no labels; choose the column that has them.")
    for role, split in {**held_out, **(unlabelled or {})}.items():
        _check_split(f"{name}, {role}", split)
        _check_alike(name, train, role, split, labelled=role in held_out)

    unseen, label_names, tag_names = {}, None, None
    if train.kind in ("classification", "multi-label", "joint"):
        seen = set(_classes(train))
        label_names = sorted(seen, key=_by_size if all(map(_is_whole, seen)) else None)
        unseen["label"] = _unseen((label for split in held_out.values() for label in _classes(split)), seen)
    if train.tags is not None:
        tags = {tag for row in train.tags for tag in row}
        tag_names = ["O", *sorted(tags - {"O"})]
        held_tags = (tag for split in held_out.values() for row in split.tags or [] for tag in row)
        unseen["tag"] = _unseen(held_tags, {*tags, "O"})
    tests = tuple(role for role in held_out if role.startswith("test"))
    return TextData(
        name=name,
        kind=train.kind,
        train=train,
        held_out=dict(held_out),
        reported=tuple(reported) or tests or tuple(held_out),
        unlabelled=dict(unlabelled or {}),
        metrics=tuple(metrics) or metrics_of(train.kind, 0 if label_names is None else len(label_names)),
        label_names=label_names,
        positive=positive or (label_names[-1] if label_names and len(label_names) == 2 else None),
        tag_names=tag_names,
        unseen=unseen,
        fingerprint=fingerprint(train),
    )


def clean_text(text: str) -> str:
    """Words joined by single spaces.

    Only ASCII blanks separate words: a no-break space inside a value is part of its word, because
    the tag files count words by plain spaces.
    """
    return " ".join(word for word in text.replace("\t", " ").split(" ") if word)


def check_tags(text: str, tags: Sequence[str], where: str) -> None:
    """Raise `UsageError` unless ``tags`` holds one BIO tag for each word of ``text``."""
    n_words = len(text.split(" "))
    if n_words != len(tags):
        raise UsageError(f"{where}: {n_words} words but {len(tags)} tags: give one tag per space-separated word.")
    for tag in tags:
        if tag != "O" and not (tag[:2] in ("B-", "I-") and len(tag) > 2):
            raise UsageError(f"{where}: tag {shown(tag)} is not O, B-<type> or I-<type>: write BIO tags.")


def fingerprint(split: Split) -> str:
    """SHA-256 (hex) over the split's content and order; rows and ids do not count."""
    digest = hashlib.sha256()
    for i in range(len(split)):
        fields = [split.texts[i]]
        fields += [] if split.labels is None else _as_texts(split.labels[i])
        fields += [] if split.pairs is None else ["pair", split.pairs[i]]
        fields += [] if split.tags is None else ["slots", *split.tags[i]]
        # Length-prefixed, so no text can imitate a border between two fields.
        for field in [str(len(fields)), *fields]:
            raw = field.encode("utf-8", "surrogatepass")
            digest.update(f"{len(raw)}:".encode() + raw)
    return digest.hexdigest()


def identity_of(data: TextData) -> str:
    """What two runs on the same data share: the training and the deciding test examples, sha256 in hex."""
    return hashlib.sha256(f"{data.fingerprint}{fingerprint(data.test)}".encode()).hexdigest()


def _draw(n: int, k: int, seed: int) -> list[int]:
    return sorted(random.Random(seed).sample(range(n), k))


def _is_whole(label: str) -> bool:
    return label.removeprefix("-").isdecimal() and len(label) < 19


def _by_size(label: str) -> tuple[int, str]:
    return int(label), label


def _as_texts(label: Label) -> list[str]:
    if isinstance(label, tuple):
        return ["labels", *label]
    return [label if isinstance(label, str) else repr(label)]


def _classes(split: Split) -> Iterable[str]:
    for label in split.labels or ():
        yield from label if isinstance(label, tuple) else (str(label),)


def _unseen(labels: Iterable[str], known: set[str]) -> dict[str, int]:
    return dict(sorted(Counter(label for label in labels if label not in known).items()))


def _check_alike(name: str, train: Split, role: str, split: Split, *, labelled: bool) -> None:
    if (split.pairs is None) != (train.pairs is None):
        raise UsageError(f"{name}: only one of train and {role} has a second text: give it in every split or none.")
    if labelled and split.unlabelled:
        raise UsageError(f"{name}: the {role} split has no labels: leave it out or fill them in.")
    if labelled and split.kind != train.kind:
        raise UsageError(f"{name}: train is for {train.kind} and {role} for {split.kind}: give both the same columns.")


def _check_split(where: str, split: Split) -> None:
    n = len(split.texts)
    if n == 0:
        raise UsageError(f"{where}: no examples: give a split with at least one.")
    for attribute in ("labels", "tags", "pairs", "rows", "ids"):
        column = getattr(split, attribute)
        if column is not None and len(column) != n:
            raise UsageError(f"{where}: {n} texts but {len(column)} {attribute}: give one per text.")
    for i in range(n):
        here = f"{where}, example {i + 1}"
        if not split.texts[i].strip():
            raise UsageError(f"{here}: the text is empty: remove the example or fill it in.")
        if split.labels is not None:
            _check_label(here, split.labels[i], type(split.labels[0]))
        if split.tags is not None:
            check_tags(split.texts[i], split.tags[i], here)


def _check_label(where: str, label: Label, kind: type) -> None:
    if type(label) is not kind:
        raise UsageError(
            f"{where}: the label {shown(label)} is of another form than the first: give all the same form."
        )
    if label == "" or (isinstance(label, tuple) and "" in label):
        raise UsageError(f"{where}: the label is empty: remove the example or fill it in.")
    if isinstance(label, float) and not math.isfinite(label):
        raise UsageError(f"{where}: the label {label!r} is no finite number: remove the example or fill it in.")
