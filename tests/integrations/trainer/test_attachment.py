"""The trial of one batch leaves no trace: a run goes on as one without it."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from helpers import toy_trainer as toy
from transformers import TrainerCallback

import fastprune
from fastprune.integrations.trainer.attachment import Attachment


class Reading(toy.PlainDataset):
    """Counts what the main process reads, and draws from every global generator."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def __getitem__(self, index):
        self.read += 1
        found = super().__getitem__(index)
        noise = int(random.random() < 0.3) + int(np.random.rand() < 0.3) + int(torch.rand(()) < 0.3)
        found["input_ids"][1] = toy.N + noise
        return found


class Moments(TrainerCallback):
    """The global random states, and the model's mode, at the start of every epoch and at the end."""

    def __init__(self) -> None:
        self.seen: list = []

    def take(self, args, state, control, model=None, **kwargs):
        numpy = np.random.get_state()[1].tolist()
        self.seen.append((random.getstate(), numpy, torch.get_rng_state().tolist(), model.training))

    on_epoch_begin = on_epoch_end = on_train_end = take


@pytest.mark.parametrize(
    "method, workers, read",
    [("el2n", 0, 32), ("el2n", 1, 32), ("el2n-free", 0, 8), ("infobatch", 0, 8), ("grand", 0, 32)],
)
def test_a_run_is_what_it_would_be_without_the_trial(make, monkeypatch, method, workers, read):
    runs = []
    for trial in (True, False):
        if not trial:
            monkeypatch.setattr(Attachment, "_try_scores", lambda self: None)
        moments = Moments()
        trainer = make(
            data=Reading(),
            callbacks=[moments],
            logging_strategy="steps",
            logging_steps=2,
            dataloader_num_workers=workers,
        )
        trainer.eval_dataset = None
        pruner = fastprune.attach(trainer, keep_fraction=0.5, method=method)
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(11)
        trainer.train()
        runs.append((trainer, pruner, moments))
    (one, ours, seen), (other, theirs, plainly) = runs
    assert one.batches == other.batches and seen.seen == plainly.seen
    toy.assert_same_weights(one, other)
    assert torch.equal(ours.kept_indices, theirs.kept_indices)
    for metric in ours.method.reads:
        assert torch.equal(ours.history.value(metric), theirs.history.value(metric))
    untimed = [
        [
            {k: v for k, v in entry.items() if "second" not in k and k != "train_runtime"}
            for entry in t.state.log_history
        ]
        for t in (one, other)
    ]
    assert untimed[0] == untimed[1]
    assert one.train_dataset.read - other.train_dataset.read == read
