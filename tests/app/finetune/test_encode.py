"""Token ids, tags on first sub-tokens, and batches of like length."""

import json

import pytest
import torch

from fastprune.app.data import Split, build
from fastprune.app.finetune.encode import IGNORE, EncodedSplit, collator, group_by_length
from fastprune.app.finetune.encoder import WEIGHTS_SHA256, load_encoder, longest_input, packaged_minilm
from fastprune.errors import UsageError


def joint_data():
    train = Split(["book flights to boston", "play jazz"], ["A", "B"], [["O", "O", "O", "B-c"], ["O", "B-g"]])
    test = Split(["book jazz"], ["C"], [["O", "B-x"]])
    return build("toy", train, {"test": test})


def test_only_first_subtokens_carry_tags(tiny_model):
    data = joint_data()
    _, tokenizer, _ = load_encoder(str(tiny_model))
    encoded = EncodedSplit(data, data.train, tokenizer, 32)
    first = encoded[0]
    tokens = tokenizer.convert_ids_to_tokens(first["input_ids"])
    assert tokens == ["[CLS]", "book", "flight", "##s", "to", "boston", "[SEP]"]
    names = [None if tag == IGNORE else data.tag_names[tag] for tag in first["tag_labels"]]
    assert names == [None, "O", "O", None, "O", "B-c", None]
    assert encoded.first_tokens[0] == [1, 2, 4, 5]


def test_labels_unknown_in_training_are_ignored_not_guessed(tiny_model):
    data = joint_data()
    _, tokenizer, _ = load_encoder(str(tiny_model))
    example = EncodedSplit(data, data.test, tokenizer, 32)[0]
    assert example["labels"] == IGNORE
    assert example["tag_labels"][1:3] == [data.tag_names.index("O"), IGNORE]


def test_words_of_byte_level_tokenizers_keep_their_boundaries(tmp_path):
    """A RoBERTa-like tokenizer must see every word as a word, not as the rest of the one before."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *alphabet]
    (tmp_path / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    transformers.RobertaTokenizerFast(
        vocab=str(tmp_path / "vocab.json"),
        merges=str(tmp_path / "merges.txt"),
        vocab_file=str(tmp_path / "vocab.json"),
        merges_file=str(tmp_path / "merges.txt"),
    ).save_pretrained(tmp_path)
    config = transformers.RobertaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
    )
    transformers.RobertaModel(config).half().save_pretrained(tmp_path)
    encoder, tokenizer, _ = load_encoder(str(tmp_path))
    assert next(encoder.parameters()).dtype == torch.float32, "half-precision checkpoints are trained in fp32"
    assert longest_input(encoder, tokenizer, 128) == 38
    data = joint_data()
    ids = EncodedSplit(data, data.train, tokenizer, 38)[1]["input_ids"]
    assert "".join(tokenizer.convert_ids_to_tokens(ids)[1:-1]).split("Ġ") == ["", "play", "jazz"]


def test_padding_is_masked_and_ignored(tiny_model):
    data = joint_data()
    _, tokenizer, _ = load_encoder(str(tiny_model))
    encoded = EncodedSplit(data, data.train, tokenizer, 32, numbered=True)
    batch = collator("joint", tokenizer)([encoded[0], encoded[1]])
    assert batch["attention_mask"].sum(1).tolist() == encoded.lengths.tolist() == [7, 4]
    assert (batch["tag_labels"][1, 4:] == IGNORE).all() and (batch["input_ids"][1, 4:] == tokenizer.pad_token_id).all()
    assert batch["index"].tolist() == [0, 1] and batch["labels"].tolist() == [0, 1]


def test_labels_of_every_task(tiny_model):
    _, tokenizer, _ = load_encoder(str(tiny_model))
    cases = {
        "regression": ([1.5, -2.0], [1.5, -2.0]),
        "multi-label": ([("a", "c"), ("b",)], [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]),
        "classification": (["b", "a"], [1, 0]),
    }
    for kind, (labels, expected) in cases.items():
        split = Split(["play jazz", "book now"], labels)
        data = build("toy", split, {"test": split})
        assert data.kind == kind
        encoded = EncodedSplit(data, split, tokenizer, 32)
        assert [encoded[i]["labels"] for i in range(2)] == expected
        batch = collator(kind, tokenizer)([encoded[0], encoded[1]])
        assert batch["labels"].tolist() == expected
    tags = Split(["play jazz", "book flights"], None, [["O", "B-g"], ["O", "O"]])
    encoded = EncodedSplit(build("toy", tags, {"test": tags}), tags, tokenizer, 32)
    batch = collator("tokens", tokenizer)([encoded[0], encoded[1]])
    assert batch["labels"].tolist() == [[IGNORE, 0, 1, IGNORE, IGNORE], [IGNORE, 0, 0, IGNORE, IGNORE]]


def test_a_second_sentence_and_tags_are_refused_together(tiny_model):
    data = joint_data()
    split = Split(data.train.texts, data.train.labels, data.train.tags, pairs=["x", "y"])
    with pytest.raises(UsageError, match="--pair-column"):
        EncodedSplit(data, split, load_encoder(str(tiny_model))[1], 32)


@pytest.mark.parametrize("n", [1, 7, 8, 500])
def test_grouping_by_length_keeps_every_example_and_saves_padding(n):
    lengths = torch.randint(3, 40, (n,), generator=torch.Generator().manual_seed(0))
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1))
    one, again = (group_by_length(lengths, 8)(order, torch.Generator().manual_seed(2)) for _ in range(2))
    assert torch.equal(one, again)
    assert sorted(one.tolist()) == list(range(n))

    def padded(indices):
        return sum(int(lengths[part].max()) * len(part) for part in indices.split(8))

    assert padded(one) <= padded(order)
    if n == 500:
        assert padded(one) < 1.1 * int(lengths.sum()) < 0.8 * padded(order)


def test_the_packaged_encoder_is_the_expected_file():
    folder = packaged_minilm()
    assert (folder / "tokenizer.json").is_file()
    assert WEIGHTS_SHA256.startswith("53aa5117")


def test_other_weights_under_the_packages_name_are_refused(monkeypatch):
    import fastprune.app.finetune.encoder as encoder

    monkeypatch.setattr(encoder, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(UsageError, match="sha256"):
        encoder.packaged_minilm()
