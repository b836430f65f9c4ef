"""Methods that weight examples, in TRL's SFTTrainer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("trl")

from helpers import tiny_trl as tiny  # noqa: E402
from helpers import trl_trainers  # noqa: E402
from trl import SFTConfig, SFTTrainer  # noqa: E402

import fastprune  # noqa: E402
from fastprune.integrations.packed import Layout  # noqa: E402
from fastprune.integrations.trainer.fused_loss import FusedLoss  # noqa: E402
from fastprune.integrations.trainer.readers import FusedOutputs, Outcome  # noqa: E402
from fastprune.integrations.trainer.tile_fold import TileScores  # noqa: E402


class Namespace(SimpleNamespace):
    """One that can be held weakly."""


@pytest.fixture
def make(tmp_path):
    def build(cls=SFTTrainer, data=None, folder="out", **settings):
        data = tiny.completions() if data is None else data
        return trl_trainers.build(cls, SFTConfig, tmp_path / folder, data=data, **settings)

    return build


def ones(index):
    return torch.ones(len(index))


def by_index(index):
    return 1.0 + index.double() % 3


@pytest.mark.parametrize(
    "settings",
    [{}, {"loss_type": "dft"}, {"gradient_accumulation_steps": 2}, {"padding_free": True, "max_length": None}],
)
def test_weights_of_one_leave_every_bit(make, settings):
    settings = {"num_train_epochs": 1, "data": tiny.completions(22), **settings}
    weighted, plain = make(**settings), make(folder="plain", **settings)
    pruner = fastprune.attach(weighted, method="infobatch", keep_fraction=0.5, warmup_epochs=1)
    pruner.weights = ones
    weighted.train()
    plain.train()
    for name, value in plain.model.state_dict().items():
        assert torch.equal(weighted.model.state_dict()[name], value), name


@pytest.mark.parametrize("padding_free", [False, True])
@pytest.mark.parametrize("loss_type", ["nll", "dft"])
def test_the_loss_is_the_weighted_sum_over_the_items_of_the_step(make, loss_type, padding_free):
    trainer = make(
        loss_type=loss_type,
        padding_free=padding_free,
        max_length=None,
        learning_rate=0.0,
        gradient_accumulation_steps=2,
        num_train_epochs=1,
    )
    pruner = fastprune.attach(trainer, method="infobatch", keep_fraction=0.5, warmup_epochs=1)
    pruner.weights = by_index
    seen, call = [], trainer.compute_loss

    def noting(model, inputs, return_outputs=False, num_items_in_batch=None):
        loss = call(model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch)
        seen.append((loss.detach(), num_items_in_batch))
        return loss

    trainer.compute_loss = noting
    observed = []
    with tiny.observed(pruner, observed):
        trainer.train()
    assert len(seen) == len(observed) == 6
    del trainer.compute_loss
    for (loss, items), (index, _) in zip(seen, observed, strict=True):
        assert items is not None
        total = 0.0
        for i in index.tolist():
            one = trainer.data_collator([trainer.train_dataset[i]])
            given = {k: v for k, v in one.items() if k in ("input_ids", "attention_mask", "position_ids")}
            with torch.no_grad():
                logits = trainer.model(**given).logits
            each = torch.nn.functional.cross_entropy(logits[0, :-1], one["labels"][0, 1:], reduction="none")
            each = each * torch.exp(-each) if loss_type == "dft" else each
            total += float(by_index(torch.tensor([i])) * each[one["labels"][0, 1:] != -100].sum())
        assert float(loss) == pytest.approx(total / float(items), rel=1e-4)


@pytest.mark.parametrize("method", ["infobatch", "repb"])
def test_weighted_methods_prune_with_no_extra_forward_pass(make, method):
    trainer = make(num_train_epochs=3)
    counted = tiny.Counted(trainer.model)
    pruner = fastprune.attach(trainer, method=method, keep_fraction=0.5)
    trainer.train()
    assert counted.backbone == {True: trainer.state.global_step, False: 1} and counted.head == 0
    assert pruner.history.value("loss").isfinite().all()


def test_label_smoothing_and_own_losses_are_weighted_too(make):
    def losses(outputs, labels, num_items_in_batch=None):
        each = fastprune.cross_entropy(outputs.logits, labels, shift=1, reduction="none")
        return each.sum(-1)

    for settings in ({"label_smoothing_factor": 0.1}, {"compute_loss_func": losses}):
        trainer = make(**settings)
        pruner = fastprune.attach(trainer, method="infobatch", keep_fraction=0.5)
        trainer.train()
        assert pruner.history.value("loss").isfinite().all()


class Penalised(SFTTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        return loss + 0.5 + model.get_output_embeddings().weight.square().sum()


def test_a_loss_that_cannot_be_weighted_is_refused(make):
    trainer = make()
    trainer.args.loss_type = "focal"
    with pytest.raises(ValueError, match="loss_type is 'focal', whose tokens cannot be weighted; set loss_type to one"):
        fastprune.attach(trainer, method="infobatch", keep_fraction=0.5)
    trainer = make(Penalised, folder="own")
    fastprune.attach(trainer, method="infobatch", keep_fraction=0.5)
    with pytest.raises(ValueError, match="a loss of its own, whose examples cannot be weighted"):
        trainer.train()
    assert trainer.state.global_step == 0


@pytest.mark.parametrize("items, expected", [(None, 3 / 4), (8, 3 / 8 * 2)])
def test_weights_are_averaged_over_processes_as_trl_averages(items, expected):
    """Two of four processes read other tokens.  The gradients of all are averaged afterwards, so TRL multiplies."""
    args = SimpleNamespace(loss_type="nll", average_tokens_across_devices=True)
    accelerator = SimpleNamespace(num_processes=4)
    trainer = Namespace(args=args, accelerator=accelerator, get_tp_size=lambda: 2)
    seen = FusedOutputs(TileScores(["loss"], 10), ["loss"])
    log_probs = torch.tensor([[-1.0, -2.0], [-3.0, 0.0]])
    seen.first = SimpleNamespace(log_probs=log_probs, label_mask=torch.ones(2, 2, dtype=torch.bool))
    layout = Layout(torch.tensor([[0, 0, 0], [1, 1, 1]]), torch.tensor([0, 1]), 2)
    loss = torch.tensor(5.0)
    weights = torch.tensor([1.0, 2.0])
    found = FusedLoss(trainer).weighted(Outcome(loss, loss, seen), layout, weights, items)
    assert found.item() == pytest.approx(5.0 + expected)
