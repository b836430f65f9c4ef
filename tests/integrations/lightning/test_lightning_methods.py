"""Where scores and weights come from in a Lightning run, and what is refused in which words."""

from __future__ import annotations

import pytest
import torch
from helpers import toy_lightning as toy
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import BatchSizeFinder
from torch.nn import functional as F
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    WeightedRandomSampler,
    default_collate,
)

import fastprune
from fastprune.pruning import method_names


def fit(folder, net, callback, train=None, *callbacks, **settings):
    toy.trainer(folder, callback, *callbacks, **settings).fit(net, toy.loader() if train is None else train)
    return callback.pruner


# --- scores ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", method_names())
def test_every_method_reads_its_kept_sets(tmp_path, name):
    net, kept = toy.Weighted(), toy.Kept()
    callback = fastprune.PruningCallback(keep_fraction=0.5, method=toy.method_text(name, tmp_path))
    pruner = fit(tmp_path, net, callback, None, kept)
    for epoch, phase in enumerate(pruner.driver.phases(4)):
        assert sorted(net.epoch(epoch)) == kept.sets[epoch] and len(kept.sets[epoch]) == phase.size
    assert name == "full" or len(kept.sets[1]) == 25


@pytest.mark.parametrize("method", ["el2n", "el2n-free"])
def test_score_fn_takes_the_place_of_the_task(tmp_path, method):
    """The same scores from the pass's outputs, a tensor, and from those of the training step, a dict."""

    def by_index(outputs, batch):
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs
        assert logits.shape == (len(batch[1]), 3) and not torch.is_grad_enabled()
        return batch[0][:, 0]

    net = toy.Net()
    fit(tmp_path, net, fastprune.PruningCallback(keep_fraction=0.5, method=method, score_fn=by_index))
    assert [sorted(net.epoch(e)) for e in (1, 2, 3)] == [list(range(25, toy.N))] * 3


def test_several_heads_are_one_task(tmp_path):
    """Scores are the norm over both heads, from the training step and from the pass alike."""

    class TwoHeads(toy.Net):
        def forward(self, x):
            logits = self.net(x[:, 1:])
            return {"first": logits, "second": logits.flip(-1)}

        def training_step(self, batch, batch_idx):
            x, y = self.parts(batch)
            self.batches.setdefault(self.current_epoch, []).append(x[:, 0].long().tolist())
            outputs = self(x)
            return {"loss": F.cross_entropy(outputs["first"], y), **outputs}

    task = fastprune.Task({name: fastprune.Head(name, "labels") for name in ("first", "second")})
    for method in ("el2n", "el2n-free"):
        net, final = TwoHeads(), []

        class End(Callback):
            def on_train_epoch_end(self, run, module, final=final):
                final.append(torch.nn.utils.parameters_to_vector(module.parameters()).detach().clone())

        callback = fastprune.PruningCallback(keep_fraction=0.5, method=method, task=task)
        pruner = fit(tmp_path, net, callback, toy.loader(toy.Fields(), batch_size=toy.N), End(), max_epochs=2)
        scored = toy.Net()
        if method == "el2n":
            torch.nn.utils.vector_to_parameters(final[0], scored.parameters())
        x, y = toy.examples()
        with torch.no_grad():
            logits = scored(x)
        heads = [fastprune.el2n(z, y) for z in (logits, logits.flip(-1))]
        # One batch holds everything, so the training step's scores are those of the untrained model; those of the
        # kept examples are newer.
        expected = (heads[0] ** 2 + heads[1] ** 2).sqrt()
        known = pruner.history.value("el2n")
        pruned = torch.ones(toy.N, dtype=torch.bool)
        pruned[pruner.kept_indices] = method == "el2n"
        torch.testing.assert_close(known[pruned], expected[pruned], rtol=1e-5, atol=0)


def test_forward_fn_says_how_the_module_takes_a_batch(tmp_path):
    class Whole(toy.Net):
        def forward(self, batch):
            return self.net(batch["x"][:, 1:])

        def training_step(self, batch, batch_idx):
            self.batches.setdefault(self.current_epoch, []).append(batch["x"][:, 0].long().tolist())
            return F.cross_entropy(self(batch), batch["labels"])

    with pytest.raises(ValueError, match=r"how Whole.forward takes a batch \(dict\): pass PruningCallback\(forward_fn"):
        fit(tmp_path, Whole(), fastprune.PruningCallback(method="el2n", keep_fraction=0.5), toy.loader(toy.Fields()))
    net, same = Whole(), toy.LossOnly()
    fit(
        tmp_path,
        net,
        fastprune.PruningCallback(method="el2n", keep_fraction=0.5, forward_fn=lambda m, b: m(b)),
        toy.loader(toy.Fields()),
    )
    fit(tmp_path, same, fastprune.PruningCallback(method="el2n", keep_fraction=0.5), toy.loader(toy.Fields()))
    assert net.batches == same.batches


def test_grand_is_the_norm_of_each_examples_last_layer_gradient(tmp_path):
    expected = []

    class ByHand(Callback):
        def on_train_epoch_end(self, run, module):
            last = module.net.linear
            for x, y in zip(*toy.examples(), strict=True):
                loss = F.cross_entropy(module(x[None]), y[None])
                gradients = torch.autograd.grad(loss, [last.weight, last.bias])
                expected.append(float(sum(g.double().square().sum() for g in gradients) ** 0.5))

    callback = fastprune.PruningCallback(keep_fraction=0.5, method="grand")
    pruner = fit(tmp_path, toy.Net(), callback, None, ByHand(), max_epochs=2)
    assert pruner.history.value("grand").tolist() == pytest.approx(expected[: toy.N], rel=1e-4)


def test_batches_reach_the_pass_as_they_reach_training(tmp_path):
    """Precision, transfer hooks and collate function are the run's."""
    seen = []

    class Hooked(toy.LossOnly):
        def on_before_batch_transfer(self, batch, dataloader_idx):
            return batch[0] * 2, batch[1]

        def on_after_batch_transfer(self, batch, dataloader_idx):
            return batch[0] + 1, batch[1]

        def forward(self, x):
            if not self.training:
                seen.append(x[:, 0].tolist())
                assert torch.is_autocast_enabled("cpu") and not torch.is_grad_enabled()
            return super().forward(x)

    callback = fastprune.PruningCallback(method="el2n", keep_fraction=0.5, score_batch_size=20)
    train = toy.loader(collate_fn=lambda samples: default_collate([(x + 3, y) for x, y in samples]))
    fit(tmp_path, Hooked(), callback, train, max_epochs=2, precision="bf16-mixed")
    trial, *seen = seen
    assert [len(values) for values in seen] == [20, 20, 10] and trial == seen[0]
    assert [value for values in seen for value in values] == [2 * (i + 3) + 1 for i in range(toy.N)]


def test_the_pass_is_not_counted_nor_logged(tmp_path):
    """What forward collects in the module is about training and validation."""

    class Counting(toy.Net):
        def __init__(self):
            super().__init__()
            self.modes, self.rows = {True: 0, False: 0}, torch.zeros((), dtype=torch.int64)

        def forward(self, x):
            self.modes[self.training] += 1
            self.rows += len(x)
            self.log("rows", float(len(x)))
            return super().forward(x)

    net, callback = Counting(), fastprune.PruningCallback(method="el2n", keep_fraction=0.5)
    run = toy.trainer(tmp_path, callback, num_sanity_val_steps=0)
    run.fit(net, toy.loader(), toy.loader(toy.Pairs(20), shuffle=False))
    trained = [len(batch) for batches in net.batches.values() for batch in batches]
    assert net.modes == {True: len(trained), False: 3 * 4}
    assert int(net.rows) == sum(trained) + 20 * 4
    assert "log" not in vars(net)


# --- weights ---------------------------------------------------------------------------------------


def test_weighted_losses_are_those_of_the_pruner(tmp_path):
    """The gradient of a step is that of the mean of weight · loss, by hand."""
    found = []

    class Check(toy.Weighted):
        def on_after_backward(self):
            index = self.batches[self.current_epoch][-1]
            pruner = self.trainer.callbacks[0].pruner
            weights = pruner.weights(torch.tensor(index))
            x, y = toy.examples()
            losses = F.cross_entropy(self(x[index]), y[index], reduction="none")
            mean = losses.mean() if weights is None else (losses * weights).sum() / len(index)
            by_hand = torch.autograd.grad(mean, list(self.parameters()))
            for one, other in zip(by_hand, self.parameters(), strict=True):
                torch.testing.assert_close(other.grad, one)
            found.append(weights is not None and bool((weights > 1).any()))

    callback = fastprune.PruningCallback(keep_fraction=0.5, method="infobatch", final_share=0.0)
    fit(tmp_path, Check(), callback)
    assert found[:7] == [False] * 7 and sum(found) >= 9


def test_forgetting_to_weight_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="weights losses, but the loop does not"):
        fit(tmp_path, toy.Net(), fastprune.PruningCallback(keep_fraction=0.5, method="infobatch"))


def test_the_mean_loss_is_a_plain_one_elsewhere(tmp_path):
    losses = torch.tensor([1.0, 3.0])
    assert fastprune.PruningCallback.mean_loss(toy.Net(), losses) == 2.0

    class Validated(toy.Weighted):
        def validation_step(self, batch, batch_idx):
            assert fastprune.PruningCallback.mean_loss(self, losses) == 2.0
            self.validated.append((0, 0))

    net, plain = Validated(), toy.Weighted()
    callback = fastprune.PruningCallback(keep_fraction=0.5, method="infobatch")
    toy.trainer(tmp_path, callback).fit(net, toy.loader(), toy.loader(shuffle=False))
    assert net.validated
    toy.trainer(tmp_path).fit(plain, toy.loader())
    assert sorted(plain.epoch(3)) == list(range(toy.N))


def test_one_loss_an_example_is_asked_for(tmp_path):
    class Mean(toy.Net):
        def training_step(self, batch, batch_idx):
            loss = F.cross_entropy(self(batch[0]), batch[1])
            return fastprune.PruningCallback.mean_loss(self, loss)

    with pytest.raises(ValueError, match=r"losses has shape \(\), the batch holds 8 examples.*reduction='none'"):
        fit(tmp_path, Mean(), fastprune.PruningCallback(keep_fraction=0.5, method="random"))


# --- what is refused -------------------------------------------------------------------------------


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.zeros(6), torch.tensor(0))])


class Resumable(DataLoader):
    def state_dict(self):
        return {}


def splits():
    return DataLoader({"train": toy.Pairs(), "test": toy.Pairs()}, 8)


def batches_of_its_own():
    return DataLoader(toy.Pairs(), batch_sampler=BatchSampler(RandomSampler(toy.Pairs()), 8, False))


def drawn_by(sampler):
    return toy.loader(sampler=sampler, shuffle=False)


@pytest.mark.parametrize(
    "train, message",
    [
        (lambda: DataLoader(Stream(), 8), r"is a stream \(Stream\)"),
        (splits, r"is a dict of the splits \['train', 'test'\]"),
        (batches_of_its_own, "a batch_sampler of its own or batch_size=None"),
        (lambda: DataLoader(toy.Pairs(), batch_size=None), "a batch_sampler of its own or batch_size=None"),
        (lambda: drawn_by(WeightedRandomSampler([1.0] * toy.N, toy.N)), r"own \(WeightedRandomSampler\)"),
        (lambda: drawn_by(RandomSampler(toy.Pairs(), replacement=True)), r"of its own \(RandomSam"),
        (lambda: [toy.loader(), toy.loader()], "is a list: pruning chooses the examples of one torch DataLoader"),
        (lambda: Resumable(toy.Pairs(), 8, shuffle=True), r"\(Resumable\) resumes by itself"),
        (lambda: toy.loader(num_workers=1, in_order=False), "has in_order=False"),
        (lambda: toy.loader(batch_size=30, drop_last=True), "leave no batch of 30 examples"),
    ],
)
def test_loaders_whose_examples_cannot_be_chosen(tmp_path, train, message):
    run = toy.trainer(tmp_path, fastprune.PruningCallback(method="el2n", keep_fraction=0.5))
    with pytest.raises(ValueError, match=message):
        run.fit(toy.Net(), train())
    assert "dataloader" not in vars(run.fit_loop._data_source)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"overfit_batches": 2}, "overfit_batches is 2: it repeats the first batches"),
        ({"reload_dataloaders_every_n_epochs": 1}, "reload_dataloaders_every_n_epochs is 1"),
        ({"max_epochs": -1}, "max_epochs is -1 and max_steps is not set"),
        ({"val_check_interval": 5}, "val_check_interval is 5 batches, an epoch of pruned data has 4"),
        ({"limit_train_batches": 0.2}, "leave no batch of 8 examples for each process"),
    ],
)
def test_trainers_that_do_not_go_with_pruning(tmp_path, settings, message):
    run = toy.trainer(tmp_path, fastprune.PruningCallback(method="el2n", keep_fraction=0.5), **settings)
    with pytest.raises(ValueError, match=message):
        run.fit(toy.Net(), toy.loader(), toy.loader(shuffle=False))


def test_a_batch_size_finder_is_refused(tmp_path):
    class Own(toy.Net):
        batch_size = 8

        def train_dataloader(self):
            return toy.loader(batch_size=self.batch_size)

    run = toy.trainer(tmp_path, fastprune.PruningCallback(method="el2n", keep_fraction=0.5), BatchSizeFinder())
    with pytest.raises(ValueError, match="BatchSizeFinder replaces the train loader"):
        run.fit(Own())


def test_manual_optimization_needs_epochs(tmp_path):
    callback = fastprune.PruningCallback(method="el2n", keep_fraction=0.5)
    with pytest.raises(ValueError, match="with manual optimization only the module knows"):
        fit(tmp_path, toy.Manual(), callback, max_steps=5, max_epochs=-1)


def test_a_step_that_returns_the_loss_alone_has_no_scores(tmp_path):
    with pytest.raises(ValueError, match='training_step returns the loss alone, and method "?.el2n-free'):
        fit(tmp_path, toy.LossOnly(), fastprune.PruningCallback(keep_fraction=0.5, method="el2n-free"))


def test_a_collate_function_that_drops_examples_is_noticed(tmp_path):
    train = toy.loader(collate_fn=lambda samples: default_collate(samples[1:]))
    with pytest.raises(ValueError, match=r"should hold 8 examples, its scores are for \[7\]: a collate_fn"):
        fit(tmp_path, toy.Net(), fastprune.PruningCallback(keep_fraction=0.5, method="el2n-free"), train)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"keep_fraction": 2}, "keep_fraction"),
        ({"keep_fraction": 0.5, "method": "magic"}, "method 'magic' is unknown"),
        ({"keep_fraction": 0.5, "warmup_epochs": -1}, "warmup_epochs"),
    ],
)
def test_bad_options_are_refused_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        fastprune.PruningCallback(**options)


def test_labels_that_cannot_be_found(tmp_path):
    class Triple(toy.Pairs):
        def __getitem__(self, index):
            return (*super().__getitem__(index), index)

    class Three(toy.Net):
        def parts(self, batch):
            return batch[:2]

    callback = fastprune.PruningCallback(keep_fraction=0.5, method="el2n-free")
    with pytest.raises(
        ValueError, match=r"the labels of a batch \(list\) are not known: say where with PruningCallback"
    ):
        fit(tmp_path, Three(), callback, toy.loader(Triple()))
    named = fastprune.PruningCallback(
        keep_fraction=0.5,
        method="el2n",
        task=fastprune.Task(fastprune.Head(labels=1)),
        forward_fn=lambda module, batch: module(batch[0]),
    )
    assert len(fit(tmp_path, Three(), named, toy.loader(Triple())).kept_indices) == 25


def test_two_callbacks_are_refused(tmp_path):
    callbacks = [fastprune.PruningCallback(method="el2n", keep_fraction=0.5) for _ in range(2)]
    with pytest.raises(RuntimeError, match="more than one stateful callback"):
        toy.trainer(tmp_path, *callbacks)
