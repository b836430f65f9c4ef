"""Token tables hold what the tokenizer gave, in any batch, and survive a file."""

from __future__ import annotations

import pytest
import torch

from benchmarks.evidence.data import load
from benchmarks.evidence.encoder import make_model, read_encoder
from benchmarks.evidence.tokens import restore, save
from fastprune.app.finetune.encode import EncodedSplit, collator


def test_a_batch_is_what_the_collator_makes(prepared, encoder, data_folder):
    data = load("atis", data_folder)
    split = EncodedSplit(data, data.train, encoder[1], 32)
    index = torch.tensor([5, 0, 33, 7])
    wanted = collator(data.kind, encoder[1])([split[int(i)] for i in index])
    found = prepared.splits["train"].batch(index)
    found["input_ids"] = prepared.vocabulary[found["input_ids"]]
    ours = {"labels": "intent", "tag_labels": "slots"}
    assert set(found) == {ours.get(name, name) for name in wanted} | {"index"} - ({"token_type_ids"} - set(found))
    for name in wanted:
        assert torch.equal(found[ours.get(name, name)], wanted[name]), name


def test_a_smaller_vocabulary_changes_no_logit(prepared, encoder):
    tokens = prepared.splits["test"].batch(torch.arange(8))
    with torch.random.fork_rng():
        model = make_model(encoder[0], (0, 1), prepared, seed=0).eval()
    whole = encoder[0].eval()
    with torch.no_grad():
        found = model.encoder(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
        ids = prepared.vocabulary[tokens["input_ids"]]
        wanted = whole(input_ids=ids, attention_mask=tokens["attention_mask"])
    assert torch.equal(found.last_hidden_state, wanted.last_hidden_state)
    assert len(model.encoder.embeddings.word_embeddings.weight) < len(whole.embeddings.word_embeddings.weight)


def test_only_the_chosen_layers_are_in_the_model(prepared, encoder):
    with torch.random.fork_rng():
        model = make_model(encoder[0], (1,), prepared, seed=0)
    own, second = model.encoder.encoder.layer, encoder[0].encoder.layer[1]
    assert len(own) == 1
    assert torch.equal(own[0].output.dense.weight, second.output.dense.weight)
    assert len(encoder[0].encoder.layer) == 2, "the encoder that is shared by all runs was changed"


def test_tables_survive_a_file(prepared, tmp_path):
    path = tmp_path / "tables" / "atis.pt.gz"
    assert restore(path) is None
    save(prepared, path)
    found = restore(path)
    assert found is not None
    assert found.intent_names == prepared.intent_names and found.slot_names == prepared.slot_names
    assert torch.equal(found.vocabulary, prepared.vocabulary)
    for name, tokens in prepared.splits.items():
        again = found.splits[name]
        assert torch.equal(again.ids, tokens.ids) and torch.equal(again.slots, tokens.slots)
        assert again.gold_slots == tokens.gold_slots and again.first_tokens == tokens.first_tokens


def test_weights_are_rounded_to_bf16(tiny_model):
    encoder, _ = read_encoder(str(tiny_model))
    for parameter in encoder.parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, parameter.to(torch.bfloat16).float())


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_model_folder_in_bf16_gives_the_same_weights(tiny_model, tmp_path, precision):
    import transformers

    loaded = transformers.AutoModel.from_pretrained(tiny_model).to(precision)
    loaded.save_pretrained(tmp_path)
    transformers.AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    found, wanted = read_encoder(str(tmp_path))[0], read_encoder(str(tiny_model))[0]
    for a, b in zip(found.parameters(), wanted.parameters(), strict=True):
        assert torch.equal(a, b)
