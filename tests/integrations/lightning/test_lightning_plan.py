"""`fastprune.PruningCallback`: nothing changes at keep_fraction 1, and what the plan says happens below it."""

from __future__ import annotations

import csv
import math

import pytest
import torch
from helpers import toy_lightning as toy
from lightning.pytorch import Callback, LightningDataModule
from lightning.pytorch.callbacks import EarlyStopping, LearningRateFinder, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

import fastprune

METHODS = ["el2n", "el2n-free"]


def fit(folder, net, train, *callbacks, validate=True, **settings):
    """Fit, and return the trainer and the state of the global random generator after it."""
    run = toy.trainer(folder, *callbacks, **settings)
    torch.manual_seed(11)
    run.fit(net, train, toy.loader(shuffle=False) if validate else None)
    return run, torch.get_rng_state()


# --- keep_fraction = 1 changes nothing -------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "settings, loading",
    [
        ({}, {}),
        ({"accumulate_grad_batches": 3}, {}),
        ({"max_steps": 17}, {"drop_last": True}),
        ({"limit_train_batches": 4, "val_check_interval": 2}, {}),
        ({"precision": "bf16-mixed"}, {}),
        ({}, {"num_workers": 2}),
        ({}, {"num_workers": 2, "persistent_workers": True}),
    ],
    ids=["plain", "accumulation", "max_steps", "limits", "bf16", "workers", "persistent"],
)
def test_keeping_everything_changes_nothing(tmp_path, method, settings, loading):
    plain, pruned = toy.Net(noise=True, schedule=True), toy.Net(noise=True, schedule=True)
    reference, before = fit(tmp_path, plain, DataLoader(toy.Pairs(), 8, sampler=toy.Shuffled(), **loading), **settings)
    callback = fastprune.PruningCallback(keep_fraction=1.0, method=method)
    run, after = fit(tmp_path, pruned, toy.loader(**loading), callback, **settings)
    assert pruned.batches == plain.batches
    assert torch.equal(pruned.weights(), plain.weights())
    assert torch.equal(before, after)
    assert (pruned.rates, pruned.estimated, pruned.validated) == (plain.rates, plain.estimated, plain.validated)
    assert run.global_step == reference.global_step
    metrics = [{k: float(v) for k, v in t.callback_metrics.items()} for t in (run, reference)]
    assert metrics[0] == metrics[1]


def test_keeping_everything_scores_nothing(tmp_path):
    def unscorable(module, batch):
        raise AssertionError("a run that keeps everything was scored")

    net = toy.Net()
    callback = fastprune.PruningCallback(keep_fraction=1.0, method="el2n", forward_fn=unscorable)
    fit(tmp_path, net, toy.loader(), callback)
    assert callback.pruner.history.empty and not callback.pruner.driver.expects_pass
    with pytest.raises(AssertionError, match="was scored"):
        fit(
            tmp_path,
            toy.Net(),
            toy.loader(),
            fastprune.PruningCallback(keep_fraction=0.5, method="el2n", forward_fn=unscorable),
        )


def test_an_unshuffled_loader_keeps_its_order(tmp_path):
    plain, pruned = toy.Net(noise=True), toy.Net(noise=True)
    _, before = fit(tmp_path, plain, toy.loader(shuffle=False))
    _, after = fit(
        tmp_path, pruned, toy.loader(shuffle=False), fastprune.PruningCallback(method="el2n", keep_fraction=1.0)
    )
    assert torch.equal(pruned.weights(), plain.weights())
    assert torch.equal(before, after)
    half = toy.Net()
    fit(tmp_path, half, toy.loader(shuffle=False), fastprune.PruningCallback(method="el2n", keep_fraction=0.5))
    assert half.epoch(1) == sorted(half.epoch(1)) and len(half.epoch(1)) == toy.N // 2


# --- the plan is what happens ----------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "loading", [{}, {"num_workers": 2}, {"num_workers": 2, "persistent_workers": True, "prefetch_factor": 4}],
    ids=["main", "workers", "persistent"],
)  # fmt: skip
def test_trains_on_what_the_plan_says(tmp_path, method, loading):
    net, kept = toy.Net(), toy.Kept()
    callback = fastprune.PruningCallback(keep_fraction=0.3, warmup_epochs=2, method=method)
    run, _ = fit(tmp_path, net, toy.loader(**loading), callback, kept, max_epochs=5)
    assert [sorted(net.epoch(e)) for e in (0, 1)] == [list(range(toy.N))] * 2
    assert net.epoch(0) != net.epoch(1)
    for epoch in (2, 3, 4):
        assert sorted(net.epoch(epoch)) == kept.sets[epoch]
        assert len(kept.sets[epoch]) == 15
    assert len({tuple(kept.sets[e]) for e in (2, 3, 4)}) > 1
    assert run.global_step == 7 + 7 + 2 + 2 + 2


class OfLengths(toy.Pairs):
    """Says how long its texts are: each length as often, and the long ones first."""

    lengths = [20 - 5 * (4 * i // toy.N) for i in range(toy.N)]


@pytest.mark.parametrize("method", ["el2n", "el2n-free", "rs2"])
def test_a_budget_of_tokens_keeps_every_length(tmp_path, method):
    net, keep = toy.Net(), fastprune.Budget(0.6, of="tokens")
    callback = fastprune.PruningCallback(keep_fraction=keep, method=method, warmup_epochs=1)
    fit(tmp_path, net, toy.loader(OfLengths()), callback, max_epochs=3)
    kept = [OfLengths.lengths[i] for i in net.epoch(2)]
    assert len(kept) == round((0.6 * 3 - 1) / 2 * toy.N)
    if method != "rs2":  # which does not look at the texts
        for length in set(OfLengths.lengths):
            assert abs(kept.count(length) - len(kept) / 4) <= 2


def test_a_budget_of_tokens_without_lengths_is_refused(tmp_path):
    callback = fastprune.PruningCallback(keep_fraction=fastprune.Budget(0.6, of="tokens"), method="el2n")
    with pytest.raises(ValueError, match="a budget of tokens needs the length of each example"):
        fit(tmp_path, toy.Net(), toy.loader(), callback, max_epochs=3)
    with pytest.raises(ValueError, match="the weights of 'infobatch' are right only if it chooses among all"):
        fastprune.PruningCallback(keep_fraction=fastprune.Budget(0.6, of="tokens"), method="infobatch")


@pytest.mark.parametrize("data", [toy.Pairs, toy.Fields])
def test_keeps_the_highest_scores_of_the_model_at_that_moment(tmp_path, data):
    """The pass agrees with scores computed by hand, in eval mode, at the end of the warm-up."""
    expected = []

    class ByHand(Callback):
        def on_train_epoch_end(self, run, module):
            x, y = toy.examples()
            module.eval()
            with torch.no_grad():
                error = module(x).double().softmax(-1) - torch.nn.functional.one_hot(y, 3)
            module.train()
            expected.append(error.norm(dim=-1))

    net, callback = toy.LossOnly(noise=True), fastprune.PruningCallback(method="el2n", keep_fraction=0.4)
    fit(tmp_path, net, toy.loader(data()), callback, ByHand(), max_epochs=2)
    assert callback.pruner is not None
    torch.testing.assert_close(callback.pruner.history.value("el2n").double(), expected[0], rtol=1e-5, atol=0)
    assert torch.equal(callback.pruner.kept_indices, fastprune.select_topk(expected[0], 20))


@pytest.mark.parametrize("loading", [{}, {"num_workers": 2}, {"drop_last": True}], ids=["main", "workers", "drop_last"])
def test_free_scores_are_those_of_the_training_step(tmp_path, loading):
    """Every example's score is the one its own logits had when it was last trained on."""
    last: dict[int, float] = {}

    class Spy(toy.Net):
        def training_step(self, batch, batch_idx):
            result = super().training_step(batch, batch_idx)
            x, y = batch
            scores = fastprune.el2n(result["logits"].detach(), y)
            last.update(zip(x[:, 0].long().tolist(), scores.tolist(), strict=True))
            return result

    callback = fastprune.PruningCallback(keep_fraction=0.4, method="el2n-free")
    fit(tmp_path, Spy(noise=True), toy.loader(**loading), callback, accumulate_grad_batches=2)
    assert callback.pruner is not None
    value = callback.pruner.history.value("el2n").tolist()
    assert value == [last.get(i, math.inf) for i in range(toy.N)]
    assert len(set(callback.pruner.history.visits.tolist())) > 1


@pytest.mark.parametrize(
    "settings, loading",
    [
        ({}, {}),
        ({"accumulate_grad_batches": 2}, {}),
        ({"accumulate_grad_batches": 3}, {"drop_last": True}),
        ({"limit_train_batches": 0.5}, {}),
        ({"limit_train_batches": 2}, {}),
        ({"max_steps": 9}, {}),
        ({"max_steps": 13, "max_epochs": -1}, {}),
        ({"max_steps": 1000}, {}),
    ],
)
@pytest.mark.parametrize(
    "options",
    [
        {"keep_fraction": 0.3},
        {"keep_fraction": fastprune.LinearRamp(0.9, 0.2)},
        {"keep_fraction": fastprune.LinearRamp(0.3, 1.0), "warmup_epochs": 0},
        {"keep_fraction": 0.5, "warmup_epochs": 0, "final_share": 0.3},
    ],
    ids=["constant", "falling", "rising", "final"],
)
def test_the_number_of_steps_is_known_and_the_learning_rate_ends_at_zero(tmp_path, options, settings, loading):
    net = toy.Net(schedule=True)
    run, _ = fit(tmp_path, net, toy.loader(batch_size=4, **loading), fastprune.PruningCallback(**options), **settings)
    assert net.estimated == [run.global_step]
    assert run.lr_scheduler_configs[0].scheduler.get_last_lr()[0] == pytest.approx(0.0, abs=1e-12)
    assert run.max_steps == settings.get("max_steps", -1)


def test_the_number_of_steps_is_known_in_setup_and_without_epochs_kept(tmp_path):
    class Early(toy.Net):
        def setup(self, stage):
            self.estimated.append(self.trainer.estimated_stepping_batches)

    net = Early()
    run, _ = fit(tmp_path, net, toy.loader(), fastprune.PruningCallback(method="el2n", keep_fraction=0.5))
    assert net.estimated == [run.global_step] == [7 + 3 * 4]
    assert sorted(net.epoch(0)) == list(range(toy.N))


# --- the user's epochs -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({}, [(0, 7), (1, 11), (2, 15), (3, 19)]),
        ({"check_val_every_n_epoch": 2}, [(1, 11), (3, 19)]),
        ({"val_check_interval": 0.5}, [(0, 3), (0, 6), (1, 9), (1, 11), (2, 13), (2, 15), (3, 17), (3, 19)]),
        ({"val_check_interval": 5, "check_val_every_n_epoch": None}, [(0, 5), (1, 10), (2, 15)]),
    ],
    ids=["epoch", "every second", "half", "steps"],
)
def test_validation_follows_the_users_epochs(tmp_path, settings, expected):
    net = toy.Net()
    fit(tmp_path, net, toy.loader(), fastprune.PruningCallback(method="el2n", keep_fraction=0.5), **settings)
    assert net.validated == expected


def test_validation_goes_on_when_epochs_grow_again(tmp_path):
    """All examples again at the end: what Lightning alone would cut to the length of the first epoch."""
    net = toy.Net()
    options = {"keep_fraction": fastprune.LinearRamp(0.2, 0.6), "warmup_epochs": 0, "final_share": 0.25}
    fit(tmp_path, net, toy.loader(), fastprune.PruningCallback(method="random", **options))
    assert [len(net.epoch(e)) for e in range(4)] == [10, 20, 30, toy.N]
    assert [epoch for epoch, _ in net.validated] == [0, 1, 2, 3]


def test_checkpoints_and_early_stopping_follow_the_users_epochs(tmp_path):
    class Worse(toy.Net):
        def on_train_epoch_end(self):
            self.log("bad", float(self.current_epoch))

    net, saves = Worse(), ModelCheckpoint(tmp_path / "saved", filename="{epoch}-{step}", save_top_k=-1)
    stop = EarlyStopping("bad", patience=2, check_on_train_epoch_end=True)
    callback = fastprune.PruningCallback(method="el2n", keep_fraction=0.5)
    run, _ = fit(tmp_path, net, toy.loader(), callback, stop, saves, enable_checkpointing=True, max_epochs=9)
    assert sorted(net.batches) == [0, 1, 2]
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert names == {"epoch=0-step=7.ckpt", "epoch=1-step=11.ckpt", "epoch=2-step=15.ckpt"}
    assert run.reload_dataloaders_every_n_epochs == 0


def test_the_trainer_is_the_users_again_afterwards(tmp_path):
    class Stop(Callback):
        def on_train_batch_end(self, run, module, outputs, batch, batch_idx):
            if run.global_step == 9:
                raise RuntimeError("stop")

    run = toy.trainer(
        tmp_path, fastprune.PruningCallback(method="el2n", keep_fraction=0.5), Stop(), max_steps=15, max_epochs=-1
    )
    with pytest.raises(RuntimeError, match="stop"):
        run.fit(toy.Net(schedule=True), toy.loader())
    assert "dataloader" not in vars(run.fit_loop._data_source)
    assert (run.max_steps, run.reload_dataloaders_every_n_epochs) == (15, 0)


def test_stopping_before_the_first_cycle_leaves_nothing_asked_for(tmp_path):
    class Stop(Callback):
        def on_train_epoch_end(self, run, module):
            run.should_stop = True

    net = toy.Net()
    run, _ = fit(tmp_path, net, toy.loader(), fastprune.PruningCallback(method="el2n", keep_fraction=0.5), Stop())
    assert sorted(net.batches) == [0]
    assert run.reload_dataloaders_every_n_epochs == 0


def test_the_users_loaders_are_asked_for_once_and_workers_stay(tmp_path):
    """Its hook may build the data set; and workers that live through epochs live through new lengths."""
    workers = set()

    class Data(LightningDataModule):
        calls = 0

        def train_dataloader(self):
            self.calls += 1
            return toy.loader(num_workers=2, persistent_workers=True)

        def val_dataloader(self):
            self.calls += 1
            return toy.loader(shuffle=False)

    class Workers(Callback):
        def on_train_batch_start(self, run, module, batch, batch_idx):
            workers.update(worker.pid for worker in run.train_dataloader._iterator._workers)

    data, net = Data(), toy.Net()
    run = toy.trainer(tmp_path, fastprune.PruningCallback(method="el2n", keep_fraction=0.5), Workers())
    run.fit(net, datamodule=data)
    assert data.calls == 2
    assert len(workers) == 2
    assert [len(net.epoch(e)) for e in range(4)] == [toy.N, 25, 25, 25]


def test_each_new_cycle_is_logged(tmp_path):
    logger = CSVLogger(tmp_path)
    callback = fastprune.PruningCallback(method="el2n", keep_fraction=0.5, cycle_epochs=2)
    fit(tmp_path, toy.Net(), toy.loader(), callback, logger=logger, max_epochs=5)
    with open(f"{logger.log_dir}/metrics.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["prune/keep_fraction"]]
    assert [row["step"] for row in rows] == ["7", "15"]
    assert [row["prune/examples_seen"] for row in rows] == ["50.0", "100.0"]
    assert all(row["prune/keep_fraction"] == "0.5" and float(row["prune/threshold"]) > 0 for row in rows)


@pytest.mark.parametrize("settings", [{}, {"max_steps": 19, "max_epochs": -1}], ids=["epochs", "steps"])
def test_a_learning_rate_finder_leaves_the_run_as_it_is(tmp_path, settings):
    class Found(toy.Net):
        lr = 0.01

    class Real(Callback):
        """The trial runs without the user's callbacks."""

        def on_train_start(self, run, module):
            module.batches = {}

    net, callback = Found(), fastprune.PruningCallback(keep_fraction=0.5, method="el2n-free")
    finder = LearningRateFinder(num_training_steps=25, update_attr=False, early_stop_threshold=None)
    run, _ = fit(tmp_path, net, toy.loader(), callback, finder, Real(), enable_checkpointing=True, **settings)
    assert finder.optimal_lr is not None and len(finder.optimal_lr.results["lr"]) == 25
    assert sorted(net.epoch(0)) == list(range(toy.N))
    assert [len(net.epoch(e)) for e in (1, 2, 3)] == [25] * 3
    assert callback.pruner is not None and int(callback.pruner.history.visits.sum()) == toy.N + 3 * 25
    assert run.max_steps == settings.get("max_steps", -1)


def test_manual_optimization_prunes_by_epochs(tmp_path):
    net, callback = toy.Manual(), fastprune.PruningCallback(keep_fraction=0.5, method="el2n-free")
    fit(tmp_path, net, toy.loader(), callback)
    assert [len(net.epoch(e)) for e in range(4)] == [toy.N, 25, 25, 25]
    assert callback.pruner is not None and int(callback.pruner.history.visits.sum()) == toy.N + 3 * 25


def test_the_order_follows_seed_everything(tmp_path, monkeypatch):
    orders = []
    for environment in ("3", "4", None):
        if environment is None:
            monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
        else:
            monkeypatch.setenv("PL_GLOBAL_SEED", environment)
        net = toy.Net()
        fit(tmp_path, net, toy.loader(), fastprune.PruningCallback(method="el2n", keep_fraction=0.5), max_epochs=1)
        orders.append(net.epoch(0))
    assert orders == [list(toy.Shuffled(seed=seed)) for seed in (3, 4, 0)]


def test_a_skipped_step_is_no_observation(tmp_path):
    class Skips(toy.Net):
        def training_step(self, batch, batch_idx):
            result = super().training_step(batch, batch_idx)
            return None if batch_idx == 2 else result

    net, callback = Skips(), fastprune.PruningCallback(keep_fraction=0.5, method="el2n-free")
    fit(tmp_path, net, toy.loader(), callback, max_epochs=1)
    assert callback.pruner is not None
    unseen = (callback.pruner.history.visits == 0).nonzero().flatten().tolist()
    assert unseen == sorted(net.batches[0][2])
    assert callback.pruner.progress.position == toy.N


def test_pytorch_lightning_works_as_well(tmp_path):
    old = pytest.importorskip("pytorch_lightning")

    class OldNet(old.LightningModule):
        def __init__(self):
            super().__init__()
            self.net, self.seen = torch.nn.Linear(4, 3), {}

        def forward(self, x):
            return self.net(x[:, 1:])

        def training_step(self, batch, batch_idx):
            x, y = batch
            self.seen.setdefault(self.current_epoch, []).extend(x[:, 0].long().tolist())
            logits = self(x)
            return {"loss": torch.nn.functional.cross_entropy(logits, y), "logits": logits}

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    net, callback = OldNet(), fastprune.PruningCallback(keep_fraction=0.5, method="el2n-free")
    toy.trainer(tmp_path, callback, cls=old.Trainer).fit(net, toy.loader())
    assert [len(net.seen[e]) for e in range(4)] == [toy.N, 25, 25, 25]
    assert sorted(net.seen[0]) == list(range(toy.N))
    assert callback.pruner is not None and set(net.seen[3]) == set(callback.pruner.kept_indices.tolist())
