"""Turns texts into token ids and label ids, once per run.  Transformers' collators make batches of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fastprune.app.data.types import Kind, Label, Split
from fastprune.errors import UsageError

IGNORE = -100
EncodedExample = dict[str, Any]
Collate = Callable[[list[EncodedExample]], Any]


class Names(Protocol):
    """What is predicted, and how its classes are numbered: a `TextData` or a `Finetuned`."""

    @property
    def kind(self) -> Kind:
        """What is predicted."""
        ...

    @property
    def label_names(self) -> list[str] | None:
        """The classes, in the order of their numbers."""
        ...

    @property
    def tag_names(self) -> list[str] | None:
        """The tags, in the order of their numbers."""
        ...


class EncodedSplit(Dataset[EncodedExample]):
    """A split as token ids: ``input_ids``, and the labels that it has.

    ``labels`` is a class, a number, or 0 and 1 for each class.  Of data with tags alone it is the tags, one per token,
    which joint data have as ``tag_labels``.  Only the first sub-token of a word carries its tag, and every other
    position is -100.  A class that does not occur in training becomes -100 as well, because it cannot be learned.  The
    metrics compare texts, so it counts as an error there.

    Args:
        names: how classes are numbered.
        split: the texts.
        tokenizer: a fast one.
        max_length: tokens that a text is cut to.
        numbered: whether examples hold their ``index``, too.
    """

    def __init__(self, names: Names, split: Split, tokenizer: Any, max_length: int, *, numbered: bool = False) -> None:
        self.split = split
        self.columns: dict[str, Sequence[Any]] = {"index": range(len(split))} if numbered else {}
        self.first_tokens: list[list[int]] | None = None
        if names.tag_names is not None and split.pairs is not None:
            raise UsageError("slot tags and a second sentence do not go together; leave out --pair-column")
        if names.tag_names is None:
            pair = {} if split.pairs is None else {"text_pair": split.pairs}
            encoded = tokenizer(split.texts, truncation=True, max_length=max_length, **pair)
        else:
            words = [text.split(" ") for text in split.texts]
            encoded = tokenizer(words, is_split_into_words=True, truncation=True, max_length=max_length)
            self.first_tokens = [_first_tokens(encoded.word_ids(i), len(w)) for i, w in enumerate(words)]
        self.input_ids: list[list[int]] = encoded["input_ids"]
        self.truncated = sum(part.overflowing != [] for part in encoded.encodings)
        self.columns["input_ids"] = self.input_ids
        if split.pairs is not None and "token_type_ids" in encoded:
            self.columns["token_type_ids"] = encoded["token_type_ids"]
        if split.labels is not None and names.kind != "tokens":
            self.columns["labels"] = _label_ids(names, split.labels)
        if split.tags is not None and self.first_tokens is not None:
            tags = {name: i for i, name in enumerate(names.tag_names or [])}
            self.columns["labels" if names.kind == "tokens" else "tag_labels"] = [
                _place([tags.get(t, IGNORE) for t in row], at, len(ids))
                for row, at, ids in zip(split.tags, self.first_tokens, self.input_ids, strict=True)
            ]

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, index: int) -> EncodedExample:
        return {name: column[index] for name, column in self.columns.items()}

    @property
    def lengths(self) -> Tensor:
        """Return the tokens of each text, int64 (n,)."""
        return torch.tensor([len(ids) for ids in self.input_ids])


def collator(kind: Kind, tokenizer: Any) -> Collate:
    """Return Transformers' collator of this task.  It pads to the longest text of the batch, and tags with -100."""
    from transformers import DataCollatorForTokenClassification, DataCollatorWithPadding

    tags = DataCollatorForTokenClassification(tokenizer, label_pad_token_id=IGNORE)
    if kind != "joint":
        return tags if kind == "tokens" else DataCollatorWithPadding(tokenizer)

    def collate(examples: list[EncodedExample]) -> Any:
        """Collate a batch.  Transformers' collator knows one kind of labels, so those of the texts go around it."""
        if "tag_labels" not in examples[0]:
            return tags(examples)
        rest = ("labels", "tag_labels")
        batch = tags([{k: v for k, v in e.items() if k not in rest} | {"labels": e["tag_labels"]} for e in examples])
        batch["tag_labels"] = batch["labels"]
        batch["labels"] = torch.tensor([e["labels"] for e in examples])
        return batch

    return collate


def group_by_length(lengths: Tensor, batch_size: int) -> Callable[[Tensor, torch.Generator], Tensor]:
    """Return an ``arrange`` for `PruningSampler`, with which like lengths share a batch.

    Batches come in random order.  Within stretches of 50 batches of that order the examples are sorted by length.  So
    the order stays random on the scale of an epoch, while padding nearly vanishes.
    """
    window = 50 * batch_size

    def arrange(order: Tensor, generator: torch.Generator) -> Tensor:
        grouped = torch.cat([part[lengths[part].argsort(stable=True)] for part in order.split(window)])
        batches = list(grouped.split(batch_size))
        # A short batch stays last, so that batch boundaries fall between groups.
        tail = [batches.pop()] if len(batches[-1]) < batch_size else []
        shuffled = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
        return torch.cat(shuffled + tail)

    return arrange


def _label_ids(names: Names, labels: Sequence[Label]) -> list[Any]:
    if names.kind == "regression":
        return list(labels)
    numbers = {name: i for i, name in enumerate(names.label_names or [])}
    if names.kind == "multi-label":
        return [[float(name in label) for name in numbers] for label in labels]  # type: ignore[operator]
    return [numbers.get(str(label), IGNORE) for label in labels]


def _first_tokens(word_ids: list[int | None], n_words: int) -> list[int]:
    """Return the token position of each word's first sub-token.  Words cut off by truncation have none."""
    first: dict[int, int] = {}
    for position, word in enumerate(word_ids):
        if word is not None:
            first.setdefault(word, position)
    return [first.get(word, -1) for word in range(n_words)]


def _place(tags: list[int], at: list[int], width: int) -> list[int]:
    row = [IGNORE] * width
    for tag, position in zip(tags, at, strict=True):
        if position >= 0:
            row[position] = tag
    return row
