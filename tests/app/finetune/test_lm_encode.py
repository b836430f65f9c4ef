"""Which tokens of an example are learned."""

from __future__ import annotations

import pytest
import torch

from fastprune.app.data.types import Split, Turn
from fastprune.app.finetune.lm.encode import EncodedTurns, collator
from fastprune.app.finetune.lm.model import longest_row
from fastprune.app.finetune.lm.tiny import tiny_model, tiny_tokenizer
from fastprune.errors import UsageError

TEXTS = ["what is two and two?", "it is four", "hello there", "and three?", "four words, not more"]
CHAT = (Turn("system", "be brief"), Turn("user", "two?"), Turn("assistant", "2"), Turn("user", "three?"),
        Turn("assistant", "3"))  # fmt: skip


@pytest.fixture
def tokenizer():
    return tiny_tokenizer(TEXTS)


def encoded(tokenizer, *turns: Turn, most: int = 1000) -> EncodedTurns:
    return EncodedTurns(Split(["x"], None, turns=[turns]), tokenizer, most)


def learned(found: EncodedTurns, tokenizer) -> str:
    return tokenizer.decode([label for label in found[0]["labels"] if label != -100])


def test_of_a_prompt_the_completion_and_the_end_are_learned(tokenizer) -> None:
    found = encoded(tokenizer, Turn("prompt", TEXTS[0]), Turn("completion", " it is four"))
    assert tokenizer.decode(found[0]["input_ids"]) == f"{TEXTS[0]} it is four<|end|>"
    assert learned(found, tokenizer) == " it is four<|end|>"
    begin = found.encoded[0].begin
    assert found[0]["labels"][:begin] == [-100] * begin and tokenizer.decode(found[0]["input_ids"][:begin]) == TEXTS[0]


def test_of_a_text_everything_is_learned(tokenizer) -> None:
    found = encoded(tokenizer, Turn("text", TEXTS[4]))
    assert learned(found, tokenizer) == f"{TEXTS[4]}<|end|>" and -100 not in found[0]["labels"]


def test_of_messages_every_turn_of_the_assistant_if_the_template_marks_them(tokenizer) -> None:
    found = encoded(tokenizer, *CHAT)
    assert learned(found, tokenizer) == "2<|end|>3<|end|>"
    assert tokenizer.decode(found[0]["input_ids"][found.encoded[0].begin :]).strip() == "3<|end|>"


def test_of_messages_the_last_turn_if_it_does_not(tokenizer) -> None:
    marks = ("{% generation %}", "{% endgeneration %}")
    for mark in marks:
        tokenizer.chat_template = tokenizer.chat_template.replace(mark, "")
    found = encoded(tokenizer, *CHAT)
    assert learned(found, tokenizer).strip() == "3<|end|>"
    assert tokenizer.decode(found[0]["input_ids"]).count("<|end|>") == 5


def test_messages_need_a_template(tokenizer) -> None:
    tokenizer.chat_template = None
    with pytest.raises(UsageError, match="has no chat template, which messages need: choose a model that has one, or"):
        encoded(tokenizer, *CHAT)


def test_a_tokenizer_that_begins_texts_does_so_once() -> None:
    from tokenizers import processors

    tokenizer = tiny_tokenizer(TEXTS)
    tokenizer.add_special_tokens({"bos_token": "<|begin|>"})
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", tokenizer.bos_token_id)]
    )
    found = encoded(tokenizer, Turn("prompt", "two?"), Turn("completion", " 2"))
    assert tokenizer.decode(found[0]["input_ids"]) == "<|begin|>two? 2<|end|>"
    assert learned(found, tokenizer) == " 2<|end|>"


def test_long_rows_lose_their_end_or_keep_what_is_learned(tokenizer) -> None:
    whole = encoded(tokenizer, Turn("prompt", "hello"), Turn("completion", TEXTS[4]))
    n, begin = len(whole[0]["input_ids"]), whole.encoded[0].begin
    assert whole.truncated == 0
    cut = encoded(tokenizer, Turn("prompt", "hello"), Turn("completion", TEXTS[4]), most=n - 2)
    assert cut.truncated == 1 and cut[0]["input_ids"] == whole[0]["input_ids"][: n - 2]
    assert cut[0]["labels"] == whole[0]["labels"][: n - 2]
    end = encoded(tokenizer, Turn("prompt", "hello"), Turn("completion", TEXTS[4]), most=2)
    assert begin >= 1 and end[0]["input_ids"] == (
        whole[0]["input_ids"][:2] if begin < 2 else whole[0]["input_ids"][-2:]
    )
    long = encoded(tokenizer, Turn("prompt", TEXTS[0] * 9), Turn("completion", "4"), most=5)
    assert learned(long, tokenizer) == "4<|end|>" and len(long[0]["input_ids"]) == 5
    assert long.encoded[0].begin == 3


def test_batches_are_padded_at_the_right(tokenizer) -> None:
    rows = [{"index": 4, "input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"index": 1, "input_ids": [8], "labels": [8]}]
    batch = collator(tokenizer)(rows)
    pad = tokenizer.pad_token_id
    assert torch.equal(batch["input_ids"], torch.tensor([[5, 6, 7], [8, pad, pad]]))
    assert torch.equal(batch["attention_mask"], torch.tensor([[1, 1, 1], [1, 0, 0]]))
    assert torch.equal(batch["labels"], torch.tensor([[-100, 6, 7], [8, -100, -100]]))
    assert torch.equal(batch["index"], torch.tensor([4, 1]))


def test_the_tiny_model_depends_on_the_texts_alone() -> None:
    split = Split(["x"], None, turns=[(Turn("text", " ".join(TEXTS)),)])
    random = torch.get_rng_state()
    model, tokenizer = tiny_model(split)
    assert torch.equal(random, torch.get_rng_state()), "the global random state is as it was"
    again, same = tiny_model(split)
    assert tokenizer.backend_tokenizer.to_str() == same.backend_tokenizer.to_str()
    for value, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(value, other)
    assert longest_row(model, tokenizer, 10**6) == 2048
    with pytest.raises(UsageError, match="--max-length 1: a language model learns from two tokens or more; raise it"):
        longest_row(model, tokenizer, 1)
