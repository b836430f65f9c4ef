"""Packed and padding-free rows: what an example is, and which score it has."""

from __future__ import annotations

import datasets
import pytest
import torch
from helpers import tiny_trl as tiny
from transformers import DataCollatorWithFlattening, Trainer, TrainingArguments

import fastprune
from fastprune.integrations.trainer import segment_scores


@pytest.fixture
def packed(tmp_path):
    trl = pytest.importorskip("trl")
    from helpers import trl_trainers

    def build(folder="out", **settings):
        settings = {"packing": True, "max_length": 16, "per_device_train_batch_size": 2, **settings}
        return trl_trainers.build(
            trl.SFTTrainer, trl.SFTConfig, tmp_path / folder, data=tiny.texts(40), net=tiny.model(), **settings
        )

    return build


@pytest.fixture
def flattening(tmp_path):
    """A plain Trainer whose collate function makes one row of a batch."""

    def build(collate=None, **settings):
        known = {name: value for name, value in tiny.SETTINGS.items() if name != "max_length"}
        args = TrainingArguments(str(tmp_path), **{**known, **settings})
        ids = [[4 + (i * 7 + j) % 60 for j in range(3 + i % 5)] for i in range(24)]
        data = datasets.Dataset.from_dict({"input_ids": ids, "labels": ids})
        return Trainer(tiny.model(), args, train_dataset=data, data_collator=collate or DataCollatorWithFlattening())

    return build


def texts_of(trainer, i):
    """The token ids of each text in a packed row."""
    row = trainer.train_dataset[i]
    return torch.tensor(row["input_ids"]).split(row.get("seq_lengths", [len(row["input_ids"])]))


def score_of_text(trainer, ids, metric="el2n"):
    trainer.model.eval()
    with torch.no_grad():
        logits = trainer.model(input_ids=ids[None], position_ids=torch.arange(len(ids))[None]).logits
    reduce = "norm" if metric == "el2n" else "mean"
    return fastprune.score(logits, ids[None], metric, shift=1, reduce=reduce)


def expected(trainer, metric="el2n"):
    """The mean over the texts of each row that have a label."""
    rows = range(len(trainer.train_dataset))
    texts = [[t for t in texts_of(trainer, i) if len(t) > 1] for i in rows]
    return torch.stack([torch.cat([score_of_text(trainer, t, metric) for t in row]).mean() for row in texts])


@pytest.mark.parametrize("method, metric", [("el2n-free", "el2n"), ("el2n", "el2n"), ("infobatch", "loss")])
def test_a_packed_row_scores_the_mean_of_its_texts(packed, method, metric):
    trainer = packed(learning_rate=0.0)
    assert any(len(texts) > 1 for texts in trainer.train_dataset["seq_lengths"])
    counted = tiny.Counted(trainer.model)
    pruner = fastprune.attach(trainer, method=method, keep_fraction=0.5)
    trainer.train()
    assert counted.backbone[True] == trainer.state.global_step
    torch.testing.assert_close(pruner.history.value(metric), expected(trainer, metric), rtol=1e-5, atol=1e-6)


def test_the_texts_of_packed_rows_have_scores_of_their_own(packed):
    trainer = packed()
    found = segment_scores(trainer, ["el2n", "loss"])
    flat = [(i, text) for i in range(len(trainer.train_dataset)) for text in texts_of(trainer, i)]
    assert found["example"].tolist() == [i for i, _ in flat]
    for metric in ("el2n", "loss"):
        wanted = torch.cat([score_of_text(trainer, text, metric) for _, text in flat])
        torch.testing.assert_close(found[metric], wanted, rtol=1e-5, atol=1e-6)


def test_wrapped_rows_are_examples(packed):
    trainer = packed(packing_strategy="wrapped", learning_rate=0.0)
    pruner = fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")
    trainer.train()
    assert pruner.history.value("el2n").gt(0).all()


@pytest.mark.parametrize("method, metric", [("el2n-free", "el2n"), ("el2n", "el2n"), ("infobatch", "loss")])
def test_segments_of_a_flattened_batch_are_the_examples(flattening, method, metric):
    trainer = flattening(learning_rate=0.0)
    pruner = fastprune.attach(trainer, method=method, keep_fraction=0.5)
    trainer.train()
    torch.testing.assert_close(pruner.history.value(metric), expected(trainer, metric), rtol=1e-5, atol=1e-6)


def test_cumulative_lengths_tell_the_segments_as_well(flattening):
    collate = DataCollatorWithFlattening()

    def lengths_only(rows):
        batch = collate(rows)
        ends = torch.tensor([0] + [len(row["input_ids"]) for row in rows]).cumsum(0)
        return {"input_ids": batch["input_ids"], "labels": batch["labels"], "cu_seq_lens_q": ends}

    trainer = flattening(lengths_only, learning_rate=0.0, remove_unused_columns=False)
    with_positions, found = flattening(), []
    for each in (trainer, with_positions):
        fastprune.attach(each, method="el2n", keep_fraction=0.5)
        layout = each._fastprune.scores.language.layout_of_fields(
            each.data_collator([each.train_dataset[i] for i in range(4)]), torch.arange(4)
        )
        found.append(layout)
    assert torch.equal(found[0].segment, found[1].segment) and torch.equal(found[0].owner, found[1].owner)
    assert found[0].owner.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("method", ["el2n-free", "el2n", "infobatch"])
def test_one_row_without_boundaries_is_refused(flattening, method):
    trainer = flattening(DataCollatorWithFlattening(return_position_ids=False))
    fastprune.attach(trainer, method=method, keep_fraction=0.5)
    with pytest.raises(ValueError, match=r"examples came as 1 row of \d+ tokens without boundaries.*position_ids"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_a_collate_function_that_drops_an_example_is_refused(flattening):
    collate = DataCollatorWithFlattening()
    trainer = flattening(lambda rows: collate(rows[1:]))
    fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")
    with pytest.raises(ValueError, match="came as one row of 3 segments, but the examples hold 4"):
        trainer.train()


def test_the_loss_of_a_flattened_batch_is_weighted_by_example(flattening):
    trainer = flattening(learning_rate=0.0, num_train_epochs=1)
    pruner = fastprune.attach(trainer, method="infobatch", keep_fraction=0.5, warmup_epochs=1)
    pruner.weights = lambda index: 1.0 + index.double() % 3
    seen, call = [], trainer.compute_loss

    def noting(*args, num_items_in_batch=None, **kwargs):
        loss = call(*args, num_items_in_batch=num_items_in_batch, **kwargs)
        seen.append((float(loss), float(num_items_in_batch)))
        return loss

    trainer.compute_loss = noting
    observed = []
    with tiny.observed(pruner, observed):
        trainer.train()
    for (loss, items), (index, _) in zip(seen, observed, strict=True):
        total = 0.0
        for i in index.tolist():
            ids = torch.tensor(trainer.train_dataset[i]["input_ids"])
            total += (1 + i % 3) * float(score_of_text(trainer, ids, "loss")) * (len(ids) - 1)
        assert loss == pytest.approx(total / items, rel=1e-4)
