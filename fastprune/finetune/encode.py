"""Texts to token ids and label ids, once per run; batches are padded to their own longest text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fastprune.data.types import Split, TextData
from fastprune.errors import UsageError

IGNORE = -100
Example = dict[str, Any]


class EncodedSplit(Dataset[Example]):
    """A split as token ids: ``input_ids`` list, ``intent`` id, ``slots`` ids (one per token) if joint.

    Only the first sub-token of a word carries its tag, every other position is -100.  A label that does not
    occur in training becomes -100 as well: it cannot be learned, and the metrics compare text labels, so it
    counts as an error there.
    """

    def __init__(self, data: TextData, split: Split, tokenizer: Any, max_length: int) -> None:
        intents = {name: i for i, name in enumerate(data.intent_names)}
        self.split = split
        self.intents = [intents.get(name, IGNORE) for name in split.intents]
        self.slots: list[list[int]] | None = None
        self.first_tokens: list[list[int]] | None = None
        if split.slots is not None and split.pairs is not None:
            raise UsageError("slot tags and a second sentence do not go together; leave out --pair-column")
        if split.slots is None:
            pair = {} if split.pairs is None else {"text_pair": split.pairs}
            encoded = tokenizer(split.texts, truncation=True, max_length=max_length, **pair)
        else:
            words = [text.split(" ") for text in split.texts]
            encoded = tokenizer(words, is_split_into_words=True, truncation=True, max_length=max_length)
            tags = {name: i for i, name in enumerate(data.slot_names or [])}
            self.first_tokens = [_first_tokens(encoded.word_ids(i), len(w)) for i, w in enumerate(words)]
            self.slots = [
                _place([tags.get(t, IGNORE) for t in row], at, len(ids))
                for row, at, ids in zip(split.slots, self.first_tokens, encoded["input_ids"], strict=True)
            ]
        self.input_ids: list[list[int]] = encoded["input_ids"]
        self.truncated = sum(part.overflowing != [] for part in encoded.encodings)
        self.token_types: list[list[int]] | None = encoded.get("token_type_ids") if split.pairs else None

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, index: int) -> Example:
        example: Example = {"index": index, "input_ids": self.input_ids[index], "intent": self.intents[index]}
        if self.slots is not None:
            example["slots"] = self.slots[index]
        if self.token_types is not None:
            example["token_type_ids"] = self.token_types[index]
        return example

    @property
    def lengths(self) -> Tensor:
        """Tokens of each text, int64 (n,)."""
        return torch.tensor([len(ids) for ids in self.input_ids])


def collator(pad_token_id: int) -> Callable[[list[Example]], dict[str, Tensor]]:
    """A collate_fn that pads ``input_ids`` with the tokenizer's padding and ``slots`` with -100."""

    def collate(batch: list[Example]) -> dict[str, Tensor]:
        width = max(len(e["input_ids"]) for e in batch)

        def pad(key: str, value: int) -> Tensor:
            return torch.tensor([e[key] + [value] * (width - len(e[key])) for e in batch])

        lengths = torch.tensor([len(e["input_ids"]) for e in batch])
        out = {
            "index": torch.tensor([e["index"] for e in batch]),
            "input_ids": pad("input_ids", pad_token_id),
            "attention_mask": (torch.arange(width)[None, :] < lengths[:, None]).long(),
            "intent": torch.tensor([e["intent"] for e in batch]),
        }
        if "slots" in batch[0]:
            out["slots"] = pad("slots", IGNORE)
        if "token_type_ids" in batch[0]:
            out["token_type_ids"] = pad("token_type_ids", 0)
        return out

    return collate


def group_by_length(lengths: Tensor, batch_size: int) -> Callable[[Tensor, torch.Generator], Tensor]:
    """An ``arrange`` for `PruningSampler`: like lengths share a batch, and batches come in random order.

    Within stretches of 50 batches of the random order the examples are sorted by length, so the order stays
    random on the scale of an epoch while padding nearly vanishes.
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


def _first_tokens(word_ids: list[int | None], n_words: int) -> list[int]:
    """The token position of each word's first sub-token; words cut off by truncation have none."""
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
