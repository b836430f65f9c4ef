"""Turns examples of a language model into token ids, with labels on the tokens that are learned.

Learned are the completion of a prompt, the assistant's turns of messages, and all of a text.  Other labels are -100.
Of messages whose chat template does not mark the assistant's turns only the last turn is learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fastprune.app.data.types import Split, Turn
from fastprune.app.finetune.encode import IGNORE, Collate, EncodedExample
from fastprune.errors import UsageError

MARK = "{% generation"
"""What a chat template has around the turns of the assistant, if it marks them.  Blanks may differ."""
SHORTEST = 2


class Encoded(NamedTuple):
    """An example as tokens.  ``begin`` is where the last learned stretch begins, which generation has to write."""

    ids: list[int]
    labels: list[int]
    begin: int


class EncodedTurns(Dataset[EncodedExample]):
    """A split as ``input_ids`` and ``labels`` of the same positions.

    A row that is too long loses its end.  If no learned token were left, it loses its beginning instead.

    Args:
        split: the examples.
        tokenizer: a fast one.
        max_length: tokens that a row is cut to.
        numbered: whether examples hold their ``index``, too.

    Attributes:
        truncated: how many rows were cut.
        encoded: the rows.

    Raises:
        UsageError: the tokenizer has no chat template, which messages need.
    """

    def __init__(self, split: Split, tokenizer: Any, max_length: int, *, numbered: bool = False) -> None:
        self.split, self.numbered = split, numbered
        whole = _encode_all(split.turns or [], tokenizer)
        self.truncated = sum(len(one.ids) > max_length for one in whole)
        self.encoded = [_cut(one, max_length) for one in whole]

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: int) -> EncodedExample:
        one = self.encoded[index]
        return {**({"index": index} if self.numbered else {}), "input_ids": one.ids, "labels": one.labels}

    @property
    def lengths(self) -> Tensor:
        """Return the tokens of each row, int64 (n,)."""
        return torch.tensor([len(one.ids) for one in self.encoded])


def collator(tokenizer: Any) -> Collate:
    """Return a function that pads a batch at its right, labels with -100."""

    def collate(examples: list[EncodedExample]) -> dict[str, Tensor]:
        width = max(len(example["input_ids"]) for example in examples)

        def padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
            return torch.tensor([[*row, *([filler] * (width - len(row)))] for row in rows])

        ids = [example["input_ids"] for example in examples]
        batch = {
            "input_ids": padded(ids, tokenizer.pad_token_id),
            "attention_mask": padded([[1] * len(row) for row in ids], 0),
            "labels": padded([example["labels"] for example in examples], IGNORE),
        }
        if "index" in examples[0]:
            batch["index"] = torch.tensor([example["index"] for example in examples])
        return batch

    return collate


def check_template(examples: Sequence[Sequence[Turn]], tokenizer: Any) -> None:
    """Refuse messages for a tokenizer that cannot make one text of them.

    Raises:
        UsageError: it has no chat template.
    """
    if not tokenizer.chat_template and any(turns[0].role not in ("prompt", "text") for turns in examples):
        raise UsageError(
            f"--model {tokenizer.name_or_path or 'given'} has no chat template, which messages need: choose a model "
            "that has one, or write prompt and completion"
        )


def _encode_all(examples: Sequence[Sequence[Turn]], tokenizer: Any) -> list[Encoded]:
    if not examples:
        return []
    if examples[0][0].role in ("prompt", "text"):
        texts = ["".join(turn.text for turn in turns) for turns in examples]
        borders = [len(turns[0].text) if turns[0].role == "prompt" else 0 for turns in examples]
        return _with_border(texts, borders, tokenizer, _first_tokens(tokenizer), [tokenizer.eos_token_id])
    check_template([examples[0]], tokenizer)
    conversations = [[{"role": role, "content": text} for role, text in turns] for turns in examples]
    if MARK.replace(" ", "") in str(tokenizer.chat_template).replace(" ", "").replace("{%-", "{%"):
        return [_marked(messages, tokenizer) for messages in conversations]
    wholes = [_last_turn(messages, tokenizer) for messages in conversations]
    return _with_border([text for text, _ in wholes], [border for _, border in wholes], tokenizer, [], [])


def _with_border(
    texts: Sequence[str], borders: Sequence[int], tokenizer: Any, before: list[int], after: list[int]
) -> list[Encoded]:
    """Encode texts of which all characters from a border on are learned."""
    found = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    rows = []
    for ids, offsets, border in zip(found["input_ids"], found["offset_mapping"], borders, strict=True):
        begin = next((i for i, (_, end) in enumerate(offsets) if end > border), len(ids))
        ids, begin = [*before, *ids, *after], len(before) + begin
        rows.append(Encoded(ids, [*([IGNORE] * begin), *ids[begin:]], begin))
    return rows


def _marked(messages: list[dict[str, str]], tokenizer: Any) -> Encoded:
    """Encode messages by a template that marks the turns of the assistant."""
    found = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    ids, mask = list(found["input_ids"]), list(found["assistant_masks"])
    last = max((i for i, learned in enumerate(mask) if learned), default=len(ids) - 1)
    begin = next((i + 1 for i in range(last, -1, -1) if not mask[i]), 0)
    return Encoded(ids, [token if learned else IGNORE for token, learned in zip(ids, mask, strict=True)], begin)


def _last_turn(messages: list[dict[str, str]], tokenizer: Any) -> tuple[str, int]:
    """Return messages as one text, and the place in it at which the last turn begins."""
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    before = ""
    if len(messages) > 1:
        before = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
    if whole.startswith(before):
        return whole, len(before)
    return whole, max(whole.rfind(messages[-1]["content"].strip()), 0)


def _first_tokens(tokenizer: Any) -> list[int]:
    """Return the token that begins every text, if the tokenizer itself puts one there."""
    first = tokenizer.bos_token_id
    return [first] if first is not None and tokenizer("a")["input_ids"][:1] == [first] else []


def _cut(one: Encoded, most: int) -> Encoded:
    if len(one.ids) <= most:
        return one
    labels = one.labels[:most]
    if any(label != IGNORE for label in labels[1:]):  # the first token answers nothing
        return Encoded(one.ids[:most], labels, min(one.begin, most))
    gone = len(one.ids) - most
    return Encoded(one.ids[gone:], one.labels[gone:], max(one.begin - gone, 1))
