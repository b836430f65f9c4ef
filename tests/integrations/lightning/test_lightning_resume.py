"""A run that goes on from any of its checkpoints ends as the uninterrupted one."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from helpers import toy_lightning as toy
from helpers.combinations import some
from lightning.pytorch.callbacks import ModelCheckpoint

import fastprune
from fastprune.errors import UsageError

KINDS = {
    "step": {"every_n_train_steps": 1},
    "epoch": {"save_on_train_epoch_end": True},
    "validation": {"save_on_train_epoch_end": False},
}


def run(
    folder, kind="step", checkpoint=None, data=None, batch_size=8, loading=None, schedule=True, noise=False, **settings
):
    """One fit; without a checkpoint to go on from it saves its own into ``folder``."""
    options = {"keep_fraction": 0.5, "method": "el2n", **settings.pop("options", {})}
    net, kept = toy.Net(noise, schedule), toy.Kept()
    if checkpoint is not None:
        draw_something_else()
    callbacks = [fastprune.PruningCallback(**options), kept]
    if checkpoint is None:
        callbacks.append(ModelCheckpoint(folder, filename="{step}", save_top_k=-1, **KINDS[kind]))
    fitting = toy.trainer(folder, *callbacks, **{"enable_checkpointing": True, **settings})
    train = toy.loader(data, batch_size=batch_size, **(loading or {}))
    fitting.fit(net, train, toy.loader(shuffle=False), ckpt_path=checkpoint, weights_only=True if checkpoint else None)
    return net, kept, fitting


def draw_something_else():
    """Leave the global random states as a new process would have them, not as this one does."""
    torch.manual_seed(99)
    np.random.seed(99)
    random.seed(99)


def saved(folder):
    """Checkpoints by their step."""
    return {int(path.stem.partition("=")[2]): path for path in folder.glob("*.ckpt")}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"options": {"method": "el2n-free"}},
        {"max_steps": 17, "max_epochs": -1},
        {"accumulate_grad_batches": 3, "options": {"cycle_epochs": 2}},
        {"options": {"method": "el2n-free", "final_share": 0.25}},
        {"loading": {"num_workers": 2}, "limit_train_batches": 3},
        {"schedule": False},
        {"schedule": False, "max_steps": 17, "max_epochs": -1},
    ],
    ids=["pass", "free", "max_steps", "accumulation", "growing", "workers", "constant", "constant max_steps"],
)
def test_every_checkpoint_goes_on_to_the_same_end(tmp_path, kind, settings):
    """Every step's in the simple cases and in `make soak`.

    Else every third one's: of the warm-up's 7 steps 1, 4 and 7, and of the cycles' 4 in turn the third, the second, and
    the first and the last.
    """
    whole, kept, first = run(tmp_path, kind, **dict(settings))
    checkpoints = saved(tmp_path)
    ended = len(kept.sets) - (kind == "validation" and "max_steps" in settings)
    assert len(checkpoints) == (first.global_step if kind == "step" else ended)
    simple = kind != "step" or settings in ({}, {"options": {"method": "el2n-free"}})
    for step in some(sorted(checkpoints), sorted(checkpoints)[:: 1 if simple else 3]):
        rest, again, second = run(tmp_path, checkpoint=checkpoints[step], **dict(settings))
        assert second.global_step == first.global_step
        assert torch.equal(rest.weights(), whole.weights()), step
        assert rest.rates == whole.rates[step:]
        for epoch, batches in rest.batches.items():
            assert again.sets[epoch] == kept.sets[epoch]
            assert batches == whole.batches[epoch][-len(batches) :]


class Noisy(toy.Pairs):
    """Examples that draw from all random states of the process that reads them."""

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        noise = random.random() + np.random.rand() + torch.rand(())
        return torch.cat([x[:1], x[1:] + 0.1 * noise]), y


@pytest.mark.parametrize(
    "kind, settings",
    [
        ("step", {"data": Noisy()}),
        ("step", {"val_check_interval": 2, "options": {"method": "el2n-free"}}),
        ("step", {"loading": {"num_workers": 1, "persistent_workers": True}, "check_val_every_n_epoch": 2}),
        ("epoch", {"data": Noisy(), "options": {"method": "el2n-free"}}),
        ("epoch", {"options": {"method": "random", "keep_fraction": 1.0}}),
        ("epoch", {"loading": {"num_workers": 1}, "limit_val_batches": 0}),
        ("epoch", {"loading": {"generator": True}}),
        ("validation", {"data": Noisy()}),
        ("validation", {"val_check_interval": 2, "options": {"method": "el2n-free"}}),
    ],
)
def test_dropout_and_noise_go_on_from_every_kind_of_checkpoint(tmp_path, kind, settings):
    """Random numbers are those that the run would have drawn, though validation and loaders draw some between them."""

    def options():
        loading = dict(settings.get("loading", {}))
        if "generator" in loading:
            loading["generator"] = torch.Generator()
        return {**settings, "loading": loading, "max_epochs": 3, "noise": True}

    whole, _, first = run(tmp_path, kind, **options())
    checkpoints = saved(tmp_path)
    # Inside the warm-up and at its end, inside a cycle, and before and after its last batch.
    chosen = [step for step in (3, 7, 9, 10, 11) if step in checkpoints]
    assert len(chosen) >= {"step": 5, "epoch": 1, "validation": 2}[kind]
    for step in chosen:
        rest, _, second = run(tmp_path, checkpoint=checkpoints[step], **options())
        assert second.global_step == first.global_step
        assert torch.equal(rest.weights(), whole.weights()), step


def test_asking_for_the_number_of_steps_in_setup_does_not_start_the_data_too_early(tmp_path):
    """Lightning then sets the loader up before it has read the checkpoint."""

    class Early(toy.Net):
        def setup(self, stage):
            self.estimated.append(self.trainer.estimated_stepping_batches)

    whole, _, first = run(tmp_path)
    for step in (3, 9, 14):
        net = Early(schedule=True)
        fitting = toy.trainer(
            tmp_path, fastprune.PruningCallback(method="el2n", keep_fraction=0.5), enable_checkpointing=True
        )
        fitting.fit(net, toy.loader(num_workers=2), toy.loader(shuffle=False), ckpt_path=saved(tmp_path)[step])
        assert torch.equal(net.weights(), whole.weights())
        assert net.estimated == [first.global_step] * 2


def test_more_epochs_may_be_added_where_that_changes_nothing_before(tmp_path):
    whole, kept, _ = run(tmp_path / "whole", schedule=False, max_epochs=6)
    run(tmp_path / "part", schedule=False, max_epochs=4)
    path = saved(tmp_path / "part")[19]
    rest, again, _ = run(tmp_path / "on", checkpoint=path, schedule=False, max_epochs=6)
    assert [again.sets[e] for e in (4, 5)] == [kept.sets[e] for e in (4, 5)]
    assert [rest.epoch(e) for e in (4, 5)] == [whole.epoch(e) for e in (4, 5)]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"data": toy.Pairs(49)}, "n = 50, this run has 49"),
        ({"options": {"keep_fraction": 0.4}}, "has schedule"),
        ({"options": {"method": "el2n-free"}}, "has method = 'el2n'"),
        ({"options": {"seed": 5}}, "has seed = 0, this run has 5"),
        ({"batch_size": 5}, "inside an epoch, in steps of 8 examples over all processes; this run takes 5"),
    ],
)
def test_the_checkpoint_of_another_run_is_refused(tmp_path, change, message):
    run(tmp_path)
    with pytest.raises(UsageError, match=message):
        run(tmp_path, checkpoint=saved(tmp_path)[9], **change)


def test_another_number_of_epochs_is_refused_where_it_changes_those_before(tmp_path):
    ramp = {"options": {"keep_fraction": fastprune.LinearRamp(1.0, 0.2)}}
    run(tmp_path, **ramp)
    last = max(saved(tmp_path))
    with pytest.raises(UsageError, match="go on with the number of epochs"):
        run(tmp_path, checkpoint=saved(tmp_path)[last], max_epochs=6, **ramp)


def test_a_checkpoint_without_pruning_is_refused(tmp_path):
    saves = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1)
    toy.trainer(tmp_path, saves, enable_checkpointing=True).fit(toy.Net(schedule=True), toy.loader())
    with pytest.raises(UsageError, match="holds no pruning state: it was made without PruningCallback"):
        run(tmp_path, checkpoint=saved(tmp_path)[7])


def test_fitting_on_in_the_same_trainer_is_refused(tmp_path):
    fitting = toy.trainer(tmp_path, fastprune.PruningCallback(method="el2n", keep_fraction=0.5), max_epochs=2)
    net = toy.Net()
    fitting.fit(net, toy.loader())
    fitting.fit_loop.max_epochs = 4
    with pytest.raises(UsageError, match="fit goes on in epoch 2, pruning in epoch 0: pass ckpt_path"):
        fitting.fit(net, toy.loader())


def test_fitting_twice_from_the_start_is_the_same_twice(tmp_path):
    callback, nets = fastprune.PruningCallback(method="el2n", keep_fraction=0.5), []
    for _ in range(2):
        net = toy.Net()
        toy.trainer(tmp_path, callback).fit(net, toy.loader())
        nets.append(net)
    assert torch.equal(nets[0].weights(), nets[1].weights())


def test_testing_a_checkpoint_leaves_the_pruner_alone(tmp_path):
    class Tested(toy.Net):
        def test_step(self, batch, batch_idx):
            pass

    callback, net = fastprune.PruningCallback(method="el2n", keep_fraction=0.5), Tested()
    saves = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, every_n_train_steps=1)
    fitting = toy.trainer(tmp_path, callback, saves, enable_checkpointing=True)
    fitting.fit(net, toy.loader())
    before = str(callback.state_dict())
    fitting.test(net, toy.loader(shuffle=False), ckpt_path=saved(tmp_path)[3])
    assert str(callback.state_dict()) == before
