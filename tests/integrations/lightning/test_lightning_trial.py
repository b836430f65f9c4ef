"""`PruningCallback` scores one batch before the first training step: what cannot work fails there."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from helpers import toy_lightning as toy
from lightning.pytorch import Callback
from torch.utils.data import default_collate

import fastprune


class Whole(toy.Net):
    def forward(self, batch):
        return super().forward(batch["x"])

    def training_step(self, batch, batch_idx):
        self.batches.setdefault(self.current_epoch, []).append(batch["x"][:, 0].long().tolist())
        return torch.nn.functional.cross_entropy(self(batch), batch["labels"])


def packed(samples):
    x, y = default_collate(samples)
    return x[:1], y[:1]


def of_tokens(outputs, batch):
    return outputs


OTHER_HEAD = fastprune.Task(fastprune.Head("a"))
REFUSED = {
    "forward": (Whole, toy.Fields, {}, {}, "how Whole.forward takes a batch"),
    "packed rows": (toy.LossOnly, toy.Pairs, {"collate_fn": packed}, {}, "a batch of 32 examples gave 1 scores"),
    "scores of tokens": (toy.LossOnly, toy.Pairs, {}, {"score_fn": of_tokens}, "pass one score per example"),
    "other heads": (toy.LossOnly, toy.Pairs, {}, {"task": OTHER_HEAD}, "hold no 'a'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_scored_fails_before_the_first_step(tmp_path, case):
    cls, data, loading, options, message = REFUSED[case]
    net, run = (
        cls(),
        toy.trainer(tmp_path, fastprune.PruningCallback(**{"keep_fraction": 0.5, "method": "el2n", **options})),
    )
    with pytest.raises(ValueError, match=message):
        run.fit(net, toy.loader(data(), **loading))
    assert net.batches == {} and run.global_step == 0


def test_scores_of_the_training_step_fail_before_the_weights_change(tmp_path):
    net = toy.LossOnly()
    before = net.weights()
    run = toy.trainer(tmp_path, fastprune.PruningCallback(keep_fraction=0.5, method="el2n-free"))
    with pytest.raises(ValueError, match="returns the loss alone"):
        run.fit(net, toy.loader())
    assert torch.equal(net.weights(), before) and run.global_step == 0


class Noisy(toy.Pairs):
    """Draws from every global generator, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def __getitem__(self, index):
        self.read += 1
        x, y = super().__getitem__(index)
        x = x.clone()
        x[1:] += random.random() + float(np.random.rand()) + float(torch.rand(()))
        return x, y


class Moments(Callback):
    def __init__(self) -> None:
        self.seen: list = []

    def take(self, run, module, *args):
        numpy = np.random.get_state()[1].tolist()
        self.seen.append((random.getstate(), numpy, torch.get_rng_state().tolist(), module.training))

    on_train_batch_start = on_train_batch_end = on_train_end = take


@pytest.mark.parametrize("method, read", [("el2n", 32), ("grand", 32), ("el2n-free", 0), ("random", 0)])
def test_a_run_is_what_it_would_be_without_the_trial(tmp_path, monkeypatch, method, read):
    runs = []
    for trial in (True, False):
        if not trial:
            monkeypatch.setattr(fastprune.PruningCallback, "_try_pass", lambda self, trainer: None)
        net, moments, data = toy.Net(noise=True), Moments(), Noisy()
        callback = fastprune.PruningCallback(keep_fraction=0.5, method=method)
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        run = toy.trainer(tmp_path, callback, moments, max_epochs=3)
        run.fit(net, toy.loader(data))
        runs.append((net, callback.pruner, moments.seen, data.read, run.logged_metrics))
    (one, ours, seen, more, metrics), (other, theirs, plainly, less, same) = runs
    assert one.batches == other.batches and seen == plainly and metrics == same
    assert torch.equal(one.weights(), other.weights())
    assert torch.equal(ours.kept_indices, theirs.kept_indices)
    assert more - less == read


@pytest.mark.parametrize("options", [{"keep_fraction": 1.0}, {"keep_fraction": 0.5, "warmup_epochs": 2}])
def test_nothing_is_scored_where_no_scores_are_needed(tmp_path, options):
    data = Noisy()
    callback = fastprune.PruningCallback(**options)
    net = toy.Net()
    run = toy.trainer(tmp_path, callback, max_epochs=2)
    monitor = []
    net.register_forward_hook(lambda module, inputs, outputs: monitor.append(module.training))
    run.fit(net, toy.loader(data))
    assert monitor[:7] == [True] * 7 and len(net.epoch(0)) == toy.N
