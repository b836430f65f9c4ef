"""`fastprune.detach`: the trainer is as it was before `attach`."""

import pytest
import torch
from helpers import toy_trainer as toy
from transformers import TrainerCallback

import fastprune


def test_a_detached_trainer_trains_on_everything_again(make):
    plain, detached = make(num_train_epochs=2), make(num_train_epochs=2)
    before = set(vars(detached)), set(vars(detached.callback_handler)), detached.compute_loss_func
    fastprune.attach(detached, keep_fraction=0.3, method="infobatch")
    fastprune.detach(detached)
    assert (set(vars(detached)), set(vars(detached.callback_handler)), detached.compute_loss_func) == before
    random_states = [toy.train(plain), toy.train(detached)]
    assert detached.batches == plain.batches and torch.equal(*random_states)
    toy.assert_same_weights(detached, plain)


def test_another_attach_is_allowed_after_detach(make):
    trainer = make(num_train_epochs=3)
    fastprune.attach(trainer, keep_fraction=0.3, method="random")
    with pytest.raises(ValueError, match="detach"):
        fastprune.attach(trainer, keep_fraction=0.5, method="random")
    fastprune.detach(trainer)
    pruner = fastprune.attach(trainer, keep_fraction=0.5, method="random")
    trainer.train()
    assert len(pruner.kept_indices) == 25


def test_detach_while_training_or_before_attach_is_refused(make):
    class Detaches(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            with pytest.raises(RuntimeError, match="is training"):
                fastprune.detach(trainer)

    trainer = make(num_train_epochs=2, callbacks=[Detaches()])
    with pytest.raises(ValueError, match="not attached"):
        fastprune.detach(trainer)
    pruner = fastprune.attach(trainer, keep_fraction=0.5, method="random")
    trainer.train()
    assert len(pruner.kept_indices) == 25


def test_an_override_of_the_user_comes_back(make):
    trainer = make(num_train_epochs=2)
    own = trainer.compute_loss

    def mine(*args, **kwargs):
        return own(*args, **kwargs)

    trainer.compute_loss = mine
    fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")
    assert trainer.compute_loss is not mine
    fastprune.detach(trainer)
    assert trainer.compute_loss is mine
