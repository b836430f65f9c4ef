"""A training step that runs the model twice is one observation, that of its first pass."""

from __future__ import annotations

import pytest
import torch
from helpers import toy_trainer as toy
from helpers.two_passes import Adversarial, SharpnessAware
from transformers import TrainerCallback

import fastprune

BOTH = pytest.mark.parametrize("cls", [Adversarial, SharpnessAware])
ACCUMULATION = pytest.mark.parametrize("accumulation", [1, 2])


@BOTH
@ACCUMULATION
def test_scores_are_those_of_the_first_pass(make, cls, accumulation):
    trainer = make(cls, per_device_train_batch_size=5, gradient_accumulation_steps=accumulation)
    pruner = fastprune.attach(trainer, keep_fraction=0.4, method="el2n-free")
    trainer.train()
    firsts = [ids for ids, _, again in trainer.passes if not again]
    assert firsts == trainer.batches and len(trainer.passes) == 2 * len(firsts)
    expected = trainer.first_scores()
    assert pruner.history.value("el2n").tolist() == [expected[i] for i in range(toy.N)]
    times = torch.bincount(torch.tensor(trainer.trained_on), minlength=toy.N)
    assert pruner.history.visits.tolist() == times.tolist()


@BOTH
@ACCUMULATION
def test_every_pass_has_the_weights_of_its_own_examples(make, cls, accumulation):
    trainer = make(cls, per_device_train_batch_size=5, gradient_accumulation_steps=accumulation)
    pruner = fastprune.attach(trainer, keep_fraction=0.4, method="infobatch", final_share=0.0)
    asked, original = [], pruner.weights

    def weights(index):
        asked.append(index.tolist())
        return original(index)

    pruner.weights = weights
    trainer.train()
    assert asked == [ids for ids, _, _ in trainer.passes]


def test_a_pass_between_two_steps_is_no_observation(make):
    class Probe(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            rows = trainer.data_collator([trainer.train_dataset[i] for i in range(8)])
            trainer.compute_loss(model.train(), rows)

    trainer = make(callbacks=[Probe()], num_train_epochs=2)
    pruner = fastprune.attach(trainer, keep_fraction=0.4, method="el2n-free")
    trainer.train()
    times = torch.bincount(torch.tensor(trainer.trained_on), minlength=toy.N)
    assert pruner.history.visits.tolist() == times.tolist()
