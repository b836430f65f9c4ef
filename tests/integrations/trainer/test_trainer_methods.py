"""Every registered method inside a Trainer: it trains its cycles, and a resumed run is the same run."""

from __future__ import annotations

import os

import pytest
import torch
from helpers import toy_trainer as toy

import fastprune
from fastprune.pruning import method_names


@pytest.fixture(params=method_names())
def method(request, tmp_path):
    return toy.method_text(request.param, tmp_path)


STEPS = (12, 17)  # inside the first cycle and inside the second


def attached(make, folder, method):
    trainer = make(
        folder=folder, num_train_epochs=8, per_device_train_batch_size=5, save_steps=1, save_strategy="steps"
    )
    trainer.add_callback(toy.SaveThere(*STEPS))
    return trainer, fastprune.attach(trainer, method=method, keep_fraction=0.5, cycle_epochs=2)


def test_every_method_trains_three_cycles_and_resumes_exactly(make, method):
    whole, pruner = attached(make, "whole", method)
    whole.train()
    kept = toy.N if method == "full" else 25
    assert len(whole.trained_on) == pruner.total_examples(8)
    final = any(phase.final for phase in pruner.driver.phases(8))
    assert len(pruner.kept_indices) == (toy.N if final else kept)
    if pruner.method.reads:
        assert (pruner.history.visits > 0).all()
    for step in STEPS:
        again, other = attached(make, f"again{step}", method)
        torch.manual_seed(99)
        again.train(resume_from_checkpoint=os.path.join(whole.args.output_dir, f"checkpoint-{step}"))
        assert again.batches == whole.batches[step:]
        toy.assert_same_weights(again, whole)
        assert torch.equal(other.kept_indices, pruner.kept_indices)
        for metric in pruner.history.reads:
            assert torch.equal(other.history.value(metric), pruner.history.value(metric))


def test_keeping_everything_changes_nothing_for_any_method(make, method):
    plain, (pruned, _) = make(folder="plain"), (make(folder="pruned"), None)
    fastprune.attach(pruned, method=method, keep_fraction=1.0)
    states = []
    for trainer in (plain, pruned):
        torch.manual_seed(trainer.args.seed)
        trainer.train()
        states.append(torch.get_rng_state())
    assert pruned.batches == plain.batches
    toy.assert_same_weights(pruned, plain)
    assert torch.equal(*states)
