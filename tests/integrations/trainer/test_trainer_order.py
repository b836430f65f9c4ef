"""Length-grouped and sequential sampling: the Trainer's own order at keep_fraction 1, its grouping below it."""

from __future__ import annotations

import inspect

import datasets
import pytest
import torch
from helpers import toy_trainer as toy
from transformers import TrainingArguments

import fastprune

NEW = "train_sampling_strategy" in inspect.signature(TrainingArguments).parameters
GROUPED = {"train_sampling_strategy": "group_by_length"} if NEW else {"group_by_length": True}


def uneven(column: str | None = None) -> datasets.Dataset:
    """Examples of 2 to 6 tokens."""
    table = toy.rows()
    for key in ("input_ids", "attention_mask"):
        table[key] = [row[: 2 + i % 5] for i, row in enumerate(table[key])]
    if column:
        table[column] = [len(row) for row in table["input_ids"]]
    return datasets.Dataset.from_dict(table)


def pad(samples):
    width = max(len(s["input_ids"]) for s in samples)
    padded = {
        k: torch.tensor([s[k] + [0] * (width - len(s[k])) for s in samples]) for k in ("input_ids", "attention_mask")
    }
    return {**padded, "labels": torch.tensor([s["labels"] for s in samples])}


def run(make, *, method=None, keep=1.0, folder="out", **settings):
    trainer = make(folder=folder, data_collator=pad, **settings)
    trainer.eval_dataset = None
    pruner = fastprune.attach(trainer, keep_fraction=keep, method=method) if method else None
    torch.manual_seed(trainer.args.seed)
    trainer.train()
    return trainer, pruner


STRATEGIES = [GROUPED] + ([{"train_sampling_strategy": "sequential"}] if NEW else [])


@pytest.mark.parametrize("settings", STRATEGIES, ids=["grouped", "sequential"][: len(STRATEGIES)])
@pytest.mark.parametrize("method", ["el2n", "el2n-free"])
def test_keeping_everything_changes_nothing(make, settings, method):
    plain, _ = run(make, data=uneven("length"), **settings)
    state = torch.get_rng_state()
    pruned, pruner = run(make, data=uneven("length"), method=method, **settings)
    assert pruned.batches == plain.batches
    toy.assert_same_weights(pruned, plain)
    assert torch.equal(torch.get_rng_state(), state)
    assert (pruner.history.visits > 0).all() == (method == "el2n-free"), "el2n makes no pass that nobody reads"


@pytest.mark.parametrize("column", [None, "length", "words"])
@pytest.mark.parametrize("method", ["el2n", "el2n-free"])
def test_like_lengths_share_batches_in_warm_up_and_cycles(make, column, method):
    settings = {**GROUPED, **({"length_column_name": column} if column else {})}
    trainer, pruner = run(
        make,
        data=uneven(column),
        method=method,
        keep=0.5,
        num_train_epochs=3,
        per_device_train_batch_size=2,
        **settings,
    )
    assert sorted(trainer.trained_on[: toy.N]) == list(range(toy.N))
    assert set(trainer.trained_on[-26:]) == set(pruner.kept_indices.tolist())
    spread = [max(i % 5 for i in batch) - min(i % 5 for i in batch) for batch in trainer.batches]
    # At random the two lengths of a batch differ by 1.6 on average.
    assert sum(spread) / len(spread) < 0.7
    read = torch.bincount(torch.tensor(trainer.trained_on), minlength=toy.N)
    assert pruner.history.visits.tolist() == (read.tolist() if method == "el2n-free" else [2] * toy.N)


@pytest.mark.skipif(not NEW, reason="this Trainer has no sequential sampling")
def test_sequential_order_is_kept_among_the_kept(make):
    trainer, pruner = run(
        make, data=uneven(), method="el2n", keep=0.5, train_sampling_strategy="sequential", num_train_epochs=2
    )
    kept = pruner.kept_indices.tolist()
    assert trainer.trained_on == [*range(toy.N), *range(6), *kept, *kept[:7]]  # whole steps of eight


@pytest.mark.skipif(not NEW, reason="this Trainer has no batch_rebalance")
def test_batches_that_no_sampler_decides_are_refused(make):
    with pytest.raises(ValueError, match="train_sampling_strategy is 'batch_rebalance'"):
        fastprune.attach(make(train_sampling_strategy="batch_rebalance"), method="el2n", keep_fraction=0.5)


def test_lengths_that_cannot_be_had_are_named(make):
    data = datasets.Dataset.from_dict({"pixels": [[1.0]] * toy.N, "labels": [0] * toy.N})
    with pytest.raises(ValueError, match="group_by_length needs the length.*'length'.*'input_ids'"):
        fastprune.attach(make(data=data, **GROUPED), keep_fraction=0.5)


def test_a_budget_of_tokens_keeps_every_length(make):
    table = uneven().to_dict()
    for key in ("input_ids", "attention_mask"):  # texts of two tokens, and of one
        table[key] = [row[: 1 + i % 2] for i, row in enumerate(table[key])]
    keep = fastprune.Budget(0.6, of="tokens")
    _, pruner = run(make, data=datasets.Dataset.from_dict(table), method="el2n-free", keep=keep)
    of_two = int((pruner.kept_indices % 2).sum())
    assert abs(of_two - len(pruner.kept_indices) / 2) <= 1


def test_a_budget_of_tokens_without_lengths_is_refused(make):
    with pytest.raises(ValueError, match="a budget of tokens needs the length of each example"):
        run(make, data=toy.PlainDataset(), method="el2n-free", keep=fastprune.Budget(0.6, of="tokens"))
