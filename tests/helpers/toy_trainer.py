"""The toy problem for a Hugging Face Trainer: its data as tokens, and a BERT small enough to train dozens of times."""

from __future__ import annotations

import os
from pathlib import Path

import datasets
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    Trainer,
    TrainerCallback,
)

from helpers import toy

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

N = toy.ROUND
WIDTH = toy.WIDTH + 2
VOCABULARY = 256
SETTINGS = {
    "num_train_epochs": 6,
    "learning_rate": 1e-3,
    "save_strategy": "no",
    "logging_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "use_cpu": True,
    "seed": 11,
}
"""TrainingArguments unless a test says otherwise."""


def rows(n: int = N) -> dict[str, list]:
    """Examples of `WIDTH` tokens: their index, what they are told apart by, and one that is the same in all."""
    x, y = toy.examples(n)
    tokens = torch.cat([torch.arange(n)[:, None], n + 8 * x + 16, torch.full((n, 1), VOCABULARY - 1)], 1).long()
    return {
        "input_ids": tokens.tolist(),
        "attention_mask": torch.ones_like(tokens).tolist(),
        "labels": y.tolist(),
    }


def hub_dataset(n: int = N) -> datasets.Dataset:
    return datasets.Dataset.from_dict(rows(n))


class PlainDataset(torch.utils.data.Dataset):
    def __init__(self, n: int = N) -> None:
        self.rows = rows(n)

    def __len__(self) -> int:
        return len(self.rows["labels"])

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {name: torch.tensor(column[index]) for name, column in self.rows.items()}


def config(**changes) -> BertConfig:
    """Dropout stays on: a scoring pass or an observation that touched the random state would show."""
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 16,
        "num_labels": 3,
    }
    return BertConfig(**{**settings, **changes})


def model(kind=BertForSequenceClassification, **changes):
    torch.manual_seed(7)
    return kind(config(**changes))


def token_model():
    return model(BertForTokenClassification)


class Recorder(Trainer):
    """Remembers which examples each micro-batch trained on, and the learning rate of each step."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.batches: list[list[int]] = []

    def training_step(self, model, inputs, *args, **kwargs):
        self.batches.append(inputs["input_ids"][:, 0].tolist())
        return super().training_step(model, inputs, *args, **kwargs)

    @property
    def trained_on(self) -> list[int]:
        return [example for batch in self.batches for example in batch]


class SaveThere(TrainerCallback):
    """Writes the checkpoints that are read, and no other: writing one takes longer than a step.

    The trainer's own settings must be to save after each step.
    """

    def __init__(self, *steps: int) -> None:
        self.steps = steps

    def on_step_end(self, args, state, control, **kwargs):
        control.should_save = state.global_step in self.steps


def method_text(name: str, folder: Path) -> str:
    """`toy.method_text` for N examples."""
    return toy.method_text(name, folder, N)


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}


def assert_same_weights(one: Trainer | dict[str, torch.Tensor], other: Trainer | dict[str, torch.Tensor]) -> None:
    """Fail unless two trainers have the same weights. Each may also be what `weights` returned."""
    one, other = (found if isinstance(found, dict) else weights(found) for found in (one, other))
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different


def train(trainer, **settings):
    """Train, and return the state of the global random generator after it."""
    torch.manual_seed(trainer.args.seed)
    trainer.train(**settings)
    return torch.get_rng_state()


def logged(trainer, key):
    return [entry for entry in trainer.state.log_history if key in entry]
