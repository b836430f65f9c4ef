"""Makes a `TextData`: checks the splits, and derives label lists, unseen labels and the fingerprint."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from fastprune.app.data.fingerprint import split_fingerprint
from fastprune.app.data.types import Label, Split, TextData
from fastprune.app.data.words import check_tags
from fastprune.app.quality import measures_of
from fastprune.errors import UsageError, shown


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
    """Check the splits against one another, and derive the rest.

    Args:
        name: what tables call the data.
        train: what is trained on.
        held_out: labelled splits by name.  Tables report those called "test…", or all of them if there is none.
        unlabelled: splits without labels by name.
        metrics: quality measures of `fastprune.app.quality`, the deciding one first; by default those of the task.
        reported: names in ``held_out``, in place of the rule above.
        positive: the class whose F1 counts, if there are two classes.  By default the last.

    Raises:
        UsageError: a split is empty, or a text or a class.  Columns differ in length, or splits in kind.  A number is
            not finite, or tags do not fit the words.  The message names split and example, counted from 1.
    """
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
        metrics=tuple(metrics) or measures_of(train.kind, 0 if label_names is None else len(label_names)),
        label_names=label_names,
        positive=positive or (label_names[-1] if label_names and len(label_names) == 2 else None),
        tag_names=tag_names,
        unseen=unseen,
        fingerprint=split_fingerprint(train),
    )


def limit(data: TextData, n_train: int, seed: int = 0) -> TextData:
    """Keep ``n_train`` random training examples in their old order.  Other splits stay whole."""
    train = at_most(data.train, n_train, "n_train", seed)
    return data if train is data.train else _rebuilt(data, train, data.held_out, data.unlabelled)


def limit_held_out(data: TextData, most: int, seed: int = 0) -> TextData:
    """Keep at most ``most`` random examples of every other split, in their old order."""
    held_out = {name: at_most(split, most, "max_test", seed) for name, split in data.held_out.items()}
    unlabelled = {name: at_most(split, most, "max_test", seed) for name, split in data.unlabelled.items()}
    return _rebuilt(data, data.train, held_out, unlabelled)


def train_on(data: TextData, indices: Sequence[int]) -> TextData:
    """Keep the training examples at ``indices`` alone."""
    return _rebuilt(data, data.train.select(indices), data.held_out, data.unlabelled)


def _rebuilt(data: TextData, train: Split, held_out: Mapping[str, Split], unlabelled: Mapping[str, Split]) -> TextData:
    new = build(
        data.name,
        train,
        held_out,
        unlabelled=unlabelled,
        metrics=data.metrics,
        reported=data.reported,
        positive=data.positive,
    )
    return replace(new, notes=data.notes, source=data.source)


def at_most(split: Split, most: int, name: str, seed: int = 0) -> Split:
    """Return ``most`` random examples in their old order, or the split itself if it has no more.

    Args:
        split: the examples.
        most: how many to keep.
        name: what messages call ``most``.
        seed: seed of the choice.

    Raises:
        UsageError: nothing is left.
    """
    if most < 1:
        raise UsageError(f"{name}={most} leaves nothing: give a number of 1 or more.")
    if most >= len(split):
        return split
    return split.select(sorted(random.Random(seed).sample(range(len(split)), most)))


def _is_whole(label: str) -> bool:
    return label.removeprefix("-").isdecimal() and len(label) < 19


def _by_size(label: str) -> tuple[int, str]:
    return int(label), label


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
    for attribute in ("labels", "tags", "pairs", "rows", "ids", "turns"):
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
