"""Shared fixtures: a tiny random model folder and tiny data folders, so that nothing needs a download."""

import gc
import json
from pathlib import Path

import pytest
from helpers.made_up_data import utterances, write_slotgated


def pytest_collection_finish() -> None:
    """What all imports made is not looked through again: accelerate collects garbage after each training."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def registry_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test registers is forgotten when it ends."""
    from fastprune.pruning import method

    monkeypatch.setattr(method, "_REGISTRY", dict(method._REGISTRY))


WORDS = "book a flight from boston to denver on monday play some jazz in the kitchen please now".split()


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A folder with a random 2-layer BERT and its fast WordPiece tokenizer."""
    transformers = pytest.importorskip("transformers")
    import torch

    folder = tmp_path_factory.mktemp("model")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(WORDS), "##s"]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    transformers.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    state = torch.get_rng_state()
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    transformers.BertModel(config).save_pretrained(folder)
    torch.set_rng_state(state)
    return folder


@pytest.fixture(scope="session")
def joint_folder(tmp_path_factory) -> Path:
    """80 training and 30 test utterances; one test intent and one test tag never occur in training."""
    test = utterances(30, seed=2) + [("book a flight on monday", "O O O O B-day", "Weather")]
    return write_slotgated(tmp_path_factory.mktemp("joint"), {"train": utterances(80, seed=1), "test": test})


@pytest.fixture(scope="session")
def table_file(tmp_path_factory) -> Path:
    """A JSONL file with columns text and label, without a test split."""
    path = tmp_path_factory.mktemp("table") / "rows.jsonl"
    rows = [{"text": words, "label": intent} for words, _, intent in utterances(60, seed=3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
