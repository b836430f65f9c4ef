"""The shape every loader hands over: texts, class labels, optional word tags.

`build` is the only way the loaders make a `TextData`, so the checks and the derived fields (label
lists, unseen labels, fingerprint) live in one place.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from fastprune.errors import UsageError


@dataclass(frozen=True)
class Split:
    """N examples: ``texts``, ``intents`` and (if given) ``slots`` and ``pairs`` have length N.

    texts: one sentence each; in a joint split the words are separated by exactly one space.
    intents: the class label of each text.
    slots: BIO tags, one per ``text.split(" ")`` word; None for plain classification.
    pairs: the second sentence of each example (paraphrase and inference data); usually None.
    """

    texts: list[str]
    intents: list[str]
    slots: list[list[str]] | None
    pairs: list[str] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, indices: list[int]) -> Split:
        """The examples at ``indices``, in that order."""
        return Split(
            texts=[self.texts[i] for i in indices],
            intents=[self.intents[i] for i in indices],
            slots=None if self.slots is None else [self.slots[i] for i in indices],
            pairs=None if self.pairs is None else [self.pairs[i] for i in indices],
        )


@dataclass(frozen=True)
class TextData:
    """A data set ready for training; make one with `build`.

    intent_names: labels seen in train, sorted.
    slot_names: tags seen in train, "O" first, then sorted; None for plain classification.
    unseen: labels that validation and test have and train has not, which no model can get right:
        ``{"intent": {label: examples}, "slot": {tag: words}}``, counted over validation + test.
    fingerprint: SHA-256 (hex) of the train split's content and order.
    """

    name: str
    train: Split
    validation: Split | None
    test: Split
    intent_names: list[str]
    slot_names: list[str] | None
    unseen: dict[str, dict[str, int]]
    fingerprint: str

    @property
    def joint(self) -> bool:
        """True when every word carries a slot tag besides the text's class label."""
        return self.slot_names is not None

    def limit(self, n_train: int, seed: int = 0) -> TextData:
        """Keep ``n_train`` random train examples in their old order; validation and test stay whole."""
        if n_train < 1:
            raise UsageError(f"n_train={n_train} leaves nothing to train on: give a number of 1 or more.")
        if n_train >= len(self.train):
            return self
        chosen = sorted(random.Random(seed).sample(range(len(self.train)), n_train))
        return build(self.name, self.train.select(chosen), self.validation, self.test)


def clean_text(text: str) -> str:
    """Words joined by single spaces.

    Only ASCII blanks separate words: a no-break space inside a value is part of its word, because
    the tag files count words by plain spaces.
    """
    return " ".join(word for word in text.replace("\t", " ").split(" ") if word)


def check_tags(text: str, tags: list[str], where: str) -> None:
    """Raise `UsageError` unless ``tags`` holds one BIO tag for each word of ``text``."""
    n_words = len(text.split(" "))
    if n_words != len(tags):
        raise UsageError(f"{where}: {n_words} words but {len(tags)} slot tags: give one tag per space-separated word.")
    for tag in tags:
        if tag != "O" and not (tag[:2] in ("B-", "I-") and len(tag) > 2):
            raise UsageError(f"{where}: slot tag {tag!r} is not O, B-<type> or I-<type>: write BIO tags.")


def build(name: str, train: Split, validation: Split | None, test: Split) -> TextData:
    """Check the splits against one another and derive the label lists.

    Raises `UsageError` for an empty split, columns of different length, an empty text or label, and
    word/tag mismatches, naming the split and the example (counted from 1).
    """
    splits = {"train": train, "validation": validation, "test": test}
    present = {role: split for role, split in splits.items() if split is not None}
    for role, split in present.items():
        _check_split(f"{name}, {role}", split)
        for attribute in ("slots", "pairs"):
            if (getattr(split, attribute) is None) != (getattr(train, attribute) is None):
                raise UsageError(
                    f"{name}: only one of train and {role} has {attribute}: give them in every split or none."
                )

    held_out = [split for role, split in present.items() if role != "train"]
    intents_in_train = set(train.intents)
    unseen = {"intent": _unseen((label for s in held_out for label in s.intents), intents_in_train)}
    slot_names = None
    if train.slots is not None:
        tags_in_train = {tag for tags in train.slots for tag in tags}
        slot_names = ["O", *sorted(tags_in_train - {"O"})]
        unseen["slot"] = _unseen(
            (tag for s in held_out for tags in s.slots or [] for tag in tags), {*tags_in_train, "O"}
        )
    return TextData(
        name=name,
        train=train,
        validation=validation,
        test=test,
        intent_names=sorted(intents_in_train),
        slot_names=slot_names,
        unseen=unseen,
        fingerprint=fingerprint(train),
    )


def fingerprint(split: Split) -> str:
    """SHA-256 (hex) over the split's content and order."""
    digest = hashlib.sha256()
    for i in range(len(split)):
        fields = [split.texts[i], split.intents[i]]
        fields += [] if split.pairs is None else ["pair", split.pairs[i]]
        fields += [] if split.slots is None else ["slots", *split.slots[i]]
        # Length-prefixed, so no text can imitate a border between two fields.
        for field in [str(len(fields)), *fields]:
            raw = field.encode("utf-8", "surrogatepass")
            digest.update(f"{len(raw)}:".encode() + raw)
    return digest.hexdigest()


def identity_of(data: TextData) -> str:
    """What two runs on the same data share: the training and the test examples, sha256 in hex."""
    return hashlib.sha256(f"{data.fingerprint}{fingerprint(data.test)}".encode()).hexdigest()


def _unseen(labels: Iterable[str], known: set[str]) -> dict[str, int]:
    return dict(sorted(Counter(label for label in labels if label not in known).items()))


def _check_split(where: str, split: Split) -> None:
    n = len(split.texts)
    if n == 0:
        raise UsageError(f"{where}: no examples: give a split with at least one.")
    for attribute in ("intents", "slots", "pairs"):
        column = getattr(split, attribute)
        if column is not None and len(column) != n:
            raise UsageError(f"{where}: {n} texts but {len(column)} {attribute}: give one per text.")
    for i in range(n):
        here = f"{where}, example {i + 1}"
        if not split.texts[i].strip():
            raise UsageError(f"{here}: the text is empty: remove the example or fill it in.")
        if not split.intents[i]:
            raise UsageError(f"{here}: the label is empty: remove the example or fill it in.")
        if split.slots is not None:
            check_tags(split.texts[i], split.slots[i], here)
