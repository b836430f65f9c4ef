"""`fastprune.attach`: what it cannot do is refused, with one sentence; what it cannot promise is said."""

from __future__ import annotations

import logging

import datasets
import pytest
import torch
from helpers import toy_trainer as toy
from transformers import Trainer, TrainerCallback

import fastprune


class OwnSampler(toy.Recorder):
    def _get_train_sampler(self, *args):
        return torch.utils.data.WeightedRandomSampler(torch.ones(len(self.train_dataset)), len(self.train_dataset))


class InOrder(toy.Recorder):
    def _get_train_sampler(self, *args):
        return torch.utils.data.SequentialSampler(self.train_dataset)


class OwnLoader(toy.Recorder):
    def get_train_dataloader(self):
        return torch.utils.data.DataLoader(self.train_dataset, batch_size=4, collate_fn=self.data_collator)


class NoOutputs(toy.Recorder):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return model(**inputs).loss


def test_refuses_what_it_cannot_do(make):
    with pytest.raises(TypeError, match="transformers.Trainer"):
        fastprune.attach(toy.model(), method="el2n", keep_fraction=0.5)
    trainer = make()
    fastprune.attach(trainer, method="el2n", keep_fraction=0.5)
    with pytest.raises(ValueError, match="already"):
        fastprune.attach(trainer, method="el2n", keep_fraction=0.5)
    with pytest.raises(ValueError, match="keep_fraction"):
        fastprune.attach(make(), method="el2n", keep_fraction=0.0)
    stream = toy.hub_dataset().to_iterable_dataset()
    with pytest.raises(ValueError, match="train_dataset is a stream"):
        fastprune.attach(make(data=stream, max_steps=3), method="el2n", keep_fraction=0.5)
    with pytest.raises(ValueError, match="_get_train_sampler"):
        fastprune.attach(make(OwnSampler), method="el2n", keep_fraction=0.5)
    trainer = make()
    trainer.train_dataset = None
    with pytest.raises(ValueError, match="no train_dataset"):
        fastprune.attach(trainer, method="el2n", keep_fraction=0.5)


def test_a_trainer_of_another_library_is_named_with_its_module():
    """SetFit's, Lightning's and others are called Trainer, too."""
    other = type("Trainer", (), {"__module__": "setfit.trainer"})()
    with pytest.raises(TypeError, match=r"transformers.Trainer, got setfit.trainer.Trainer; .*fastprune.DynamicPruner"):
        fastprune.attach(other, method="el2n", keep_fraction=0.5)


def test_a_dictionary_of_splits_is_refused_at_once(make):
    splits = datasets.DatasetDict(train=toy.hub_dataset(), test=toy.hub_dataset(20))
    with pytest.raises(ValueError, match=r"train_dataset is a DatasetDict of the splits \['train', 'test'\].*pass one"):
        fastprune.attach(make(data=splits), method="el2n", keep_fraction=0.5)


@pytest.mark.parametrize("epochs", [0, -1.5])
def test_refuses_no_epochs(make, epochs):
    trainer = make(num_train_epochs=epochs)
    fastprune.attach(trainer, method="el2n", keep_fraction=0.5)
    with pytest.raises(ValueError, match=f"num_train_epochs must be > 0 when pruning, got {epochs}"):
        trainer.train()


def test_refuses_a_budget_of_part_epochs(make):
    trainer = make(num_train_epochs=2.5)
    fastprune.attach(trainer, method="el2n", keep_fraction=fastprune.Budget(0.8))
    with pytest.raises(ValueError, match="a Budget is a share of whole.*=2.5 is not whole.*Set num_train_epochs to 3"):
        trainer.train()


def test_refuses_at_training_what_shows_only_there(make):
    trainer = make(OwnLoader)
    fastprune.attach(trainer, method="el2n", keep_fraction=0.5)
    with pytest.raises(ValueError, match="get_train_dataloader"):
        trainer.train()
    trainer = make(NoOutputs)
    fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")
    with pytest.raises(ValueError, match="return_outputs"):
        trainer.train()
    trainer = make()
    fastprune.attach(trainer, method="el2n", keep_fraction=0.5)
    trainer.train_dataset = toy.hub_dataset(30)
    with pytest.raises(ValueError, match="30 examples, it had 50"):
        trainer.train()


class Swap(TrainerCallback):
    """Exchanges the data set in the middle of the run."""

    def on_step_end(self, args, state, control, **kwargs):
        self.trainer.train_dataset = toy.PlainDataset()


def test_a_data_set_that_was_exchanged_is_noticed(make):
    reversed_rows = toy.hub_dataset().select(range(toy.N - 1, -1, -1))
    for data, other in (
        (toy.hub_dataset(), reversed_rows),
        (toy.PlainDataset(), toy.PlainDataset()),
        (toy.hub_dataset(), toy.PlainDataset()),
    ):
        trainer = make(data=data, max_steps=1)
        fastprune.attach(trainer, method="el2n", keep_fraction=0.5)
        trainer.train_dataset = other
        with pytest.raises(
            ValueError, match=r"train_dataset \((Plain)?Dataset\) is not the one that fastprune was attach"
        ):
            trainer.train()
        assert trainer.batches == []
        trainer.train_dataset = data
        trainer.train()
    swap = Swap()
    swap.trainer = make(callbacks=[swap])
    fastprune.attach(swap.trainer, method="el2n", keep_fraction=0.5)
    with pytest.raises(ValueError, match=r"train_dataset \(PlainDataset\) is not the one"):
        swap.trainer.train()


def test_the_same_examples_in_another_object_are_the_same_data_set(make):
    trainer = make(num_train_epochs=2, per_device_train_batch_size=5)
    fastprune.attach(trainer, method="el2n", keep_fraction=0.5)
    trainer.train_dataset = toy.hub_dataset().with_format("torch")
    trainer.train()
    assert len(trainer.trained_on) == 75


def test_refuses_batches_that_are_not_the_samplers(make):
    """A collator that drops examples: positions would no longer say which example is which."""
    trainer = make(data_collator=lambda samples: pad_first(samples[:-1]))
    fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")
    with pytest.raises(RuntimeError, match="batches are not those of the sampler"):
        trainer.train()


def pad_first(samples):
    return {key: torch.tensor([s[key] for s in samples]) for key in samples[0]}


def test_warns_of_an_order_it_cannot_match(make, caplog):
    with caplog.at_level(logging.WARNING, logger="fastprune"):
        fastprune.attach(make(accelerator_config={"use_seedable_sampler": False}), method="el2n", keep_fraction=0.5)
    assert "use_seedable_sampler" in caplog.text


def test_nothing_global_is_patched(make):
    before = dict(vars(Trainer))
    trainer = make()
    fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")
    trainer.train()
    assert dict(vars(Trainer)) == before
    other = make()
    other.train()
    assert sorted(other.trained_on[: toy.N]) == list(range(toy.N)) and len(other.batches) == 21


@pytest.mark.parametrize("keep", [0.5, 1.0])
def test_a_sampler_is_judged_by_the_order_that_it_gives(make, keep):
    trainer = make(InOrder, num_train_epochs=2, per_device_train_batch_size=5)
    fastprune.attach(trainer, method="random", keep_fraction=keep)
    trainer.train()
    read = [example for batch in trainer.batches for example in batch]
    warm, kept = read[: toy.N], read[toy.N : toy.N + int(keep * toy.N)]
    assert warm == list(range(toy.N)) and kept == sorted(kept)
