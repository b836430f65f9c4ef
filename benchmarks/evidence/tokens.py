"""A data set as padded token tables. They are made once, kept in a file, and held on the device during a run.

The model leaves out the embedding rows of tokens that occur in no split, so token ids are renumbered here. Such rows
get no gradient and are never read. So the training is the same without them, and the optimizer's step is several times
shorter.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastprune.app.data import TextData, identity_of
from fastprune.app.finetune.encode import IGNORE, EncodedSplit
from fastprune.files.atomic import write_atomic

TOKENS_VERSION = 1
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Tokens:
    """N examples of a split.

    Attributes:
        ids: (N, L) token ids, padded, numbered as in `Prepared.vocabulary`.
        lengths: (N,) int64 on the CPU, because the width of a batch must be known without waiting for the device.
        intents: (N,) class of each example, or -100 where training has no such class.
        slots: (N, L) tag of each token, or None.
        types: (N, L) token types of sentence pairs, or None.
        first_tokens: The position of each word's first token, or None.
        gold_intents: The classes as text, which the metrics compare.
        gold_slots: The tags as text, or None.
    """

    ids: Tensor
    lengths: Tensor
    intents: Tensor
    slots: Tensor | None
    types: Tensor | None
    first_tokens: list[list[int]] | None
    gold_intents: list[str]
    gold_slots: list[list[str]] | None

    def __len__(self) -> int:
        return len(self.lengths)

    def to(self, device: torch.device) -> Tokens:
        """The same with the tables on ``device``. The lengths stay where they are."""
        tables = {name: None if (t := getattr(self, name)) is None else t.to(device) for name in _TABLES}
        return Tokens(**{**self.__dict__, **tables})

    def batch(self, index: Tensor) -> dict[str, Tensor]:
        """The examples at ``index`` (on the CPU), cut to the longest of them. `JointModel` takes the result."""
        lengths = self.lengths[index]
        width = int(lengths.max())
        device = self.ids.device
        at = index.to(device, non_blocking=True)
        out = {
            "index": index,
            "input_ids": self.ids[at, :width].long(),
            "attention_mask": (torch.arange(width) < lengths[:, None]).long().to(device, non_blocking=True),
            "intent": self.intents[at],
        }
        if self.slots is not None:
            out["slots"] = self.slots[at, :width].long()
        if self.types is not None:
            out["token_type_ids"] = self.types[at, :width].long()
        return out


_TABLES = ("ids", "intents", "slots", "types")


@dataclass(frozen=True)
class Prepared:
    """A data set that is ready to train on.

    Attributes:
        name: The name of the data set.
        intent_names: The classes.
        slot_names: The tags, or None.
        vocabulary: (V,) the encoder's token ids that occur, ascending. The padding token is among them.
        pad: The new number of the padding token.
        splits: The token tables by split.
        fingerprint: That of the training and test texts and labels.
    """

    name: str
    intent_names: list[str]
    slot_names: list[str] | None
    vocabulary: Tensor
    pad: int
    splits: dict[str, Tokens]
    fingerprint: str

    @property
    def joint(self) -> bool:
        """True if every word has a tag."""
        return self.slot_names is not None

    def to(self, device: torch.device) -> Prepared:
        """The same with the token tables on ``device``."""
        return Prepared(**{**self.__dict__, "splits": {name: t.to(device) for name, t in self.splits.items()}})


def prepare(data: TextData, tokenizer: Any, max_length: int) -> Prepared:
    """Turn the texts into token tables."""
    texts = {"train": data.train, "validation": data.held_out["validation"], "test": data.test}
    encoded = {name: EncodedSplit(data, split, tokenizer, max_length) for name, split in texts.items()}
    ids = {tokenizer.pad_token_id}.union(*(row for split in encoded.values() for row in split.input_ids))
    vocabulary = torch.tensor(sorted(ids))
    numbers = {int(token): i for i, token in enumerate(vocabulary)}
    pad = numbers[tokenizer.pad_token_id]
    return Prepared(
        name=data.name,
        intent_names=data.label_names or [],
        slot_names=data.tag_names,
        vocabulary=vocabulary,
        pad=pad,
        splits={name: _tables(split, numbers, pad) for name, split in encoded.items()},
        fingerprint=identity_of(data),
    )


def _tables(split: EncodedSplit, numbers: Mapping[int, int], pad: int) -> Tokens:
    width = max(len(row) for row in split.input_ids)

    def table(rows: list[list[int]] | None, value: int) -> Tensor | None:
        if rows is None:
            return None
        return torch.tensor([row + [value] * (width - len(row)) for row in rows], dtype=torch.int16)

    ids = table([[numbers[token] for token in row] for row in split.input_ids], pad)
    assert ids is not None
    return Tokens(
        ids=ids,
        lengths=split.lengths,
        intents=torch.tensor(split.columns["labels"]),
        slots=table(split.columns.get("tag_labels"), IGNORE),
        types=table(split.columns.get("token_type_ids"), 0),
        first_tokens=split.first_tokens,
        gold_intents=split.split.labels,
        gold_slots=split.split.tags,
    )


def save(prepared: Prepared, path: Path) -> None:
    """Write the data set to ``path``, or leave the old file if that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    torch.save({"version": TOKENS_VERSION, **asdict(prepared)}, content)
    # Padded tables shrink to a fifth, and a lent machine takes a limited amount.
    write_atomic(path, lambda temporary: temporary.write_bytes(gzip.compress(content.getvalue(), mtime=0)))


def restore(path: Path) -> Prepared | None:
    """The data set in ``path``. None if there is no such file, or it has an older version."""
    if not path.is_file():
        return None
    content: dict[str, Any] = torch.load(io.BytesIO(gzip.decompress(path.read_bytes())), weights_only=True)
    if content.pop("version", None) != TOKENS_VERSION:
        return None
    splits = {name: Tokens(**fields) for name, fields in content.pop("splits").items()}
    return Prepared(**content, splits=splits)
