"""Shared fixtures: a tiny random model folder and tiny data folders, so that nothing needs a download."""

import json
import random
from pathlib import Path

import pytest

WORDS = "book a flight from boston to denver on monday play some jazz in the kitchen please now".split()
CITIES = ("boston", "denver")


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


def utterances(n: int, seed: int) -> list[tuple[str, str, str]]:
    """(words, tags, intent) of n utterances of two intents and one slot."""
    rng = random.Random(seed)
    rows = []
    for _ in range(n):
        if rng.random() < 0.5:
            words = f"book a flight to {rng.choice(CITIES)}".split() + ["please"] * rng.randrange(3)
            rows.append((words, ["B-city" if w in CITIES else "O" for w in words], "BookFlight"))
        else:
            words = ["play", "some", "jazz"] + ["now"] * rng.randrange(4)
            rows.append((words, ["O", "O", "B-genre"] + ["O"] * (len(words) - 3), "PlayMusic"))
    return [(" ".join(w), " ".join(t), i) for w, t, i in rows]


def write_slotgated(folder: Path, splits: dict[str, list[tuple[str, str, str]]]) -> Path:
    """The SlotGated form: one folder a split with seq.in, seq.out and label."""
    for split, rows in splits.items():
        (folder / split).mkdir(parents=True)
        for name, column in (("seq.in", 0), ("seq.out", 1), ("label", 2)):
            (folder / split / name).write_text("".join(row[column] + "\n" for row in rows))
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
