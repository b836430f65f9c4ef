"""``auto`` goes by scores where that was measured, and is ``rs2`` elsewhere, which one log line says."""

from __future__ import annotations

import logging

import pytest
import torch
from helpers import toy_trainer as toy
from transformers import (
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForQuestionAnswering,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

import fastprune
from fastprune.methods.auto import Auto

LANGUAGE = LlamaConfig(vocab_size=200, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)

GPT2 = GPT2Config(vocab_size=200, n_embd=16, n_layer=1, n_head=2)


class OfOnesOwn(BertForMaskedLM):
    """A class of a user's, of another name."""


@pytest.mark.parametrize(
    "net, what",
    [
        (lambda: LlamaForCausalLM(LANGUAGE), "a causal language model"),
        (lambda: GPT2LMHeadModel(GPT2), "a causal language model"),
        (lambda: toy.model(BertForMaskedLM), "a masked language model"),
        (lambda: toy.model(BertForMultipleChoice), "a model for multiple choice"),
        (lambda: toy.model(BertForQuestionAnswering), "a model for question answering"),
        (lambda: toy.model(num_labels=1), "regression"),
        (lambda: toy.model(problem_type="regression"), "regression"),
        (lambda: toy.model(problem_type="multi_label_classification"), "several labels of an example"),
        (lambda: toy.model(OfOnesOwn), "a masked language model"),
    ],
)
def test_where_nothing_was_measured_auto_is_rs2(make, caplog, net, what):
    pruner = fastprune.attach(make(net=net()), keep_fraction=0.5)
    assert pruner.method.name == "rs2" and pruner.schedule.warmup_epochs == 0
    said = [record.getMessage() for record in caplog.records if "evidence" in record.getMessage()]
    assert said == [
        f"method 'auto' is 'rs2' here: no evidence says which examples matter for {what}. "
        "Name another method to choose by scores, for instance 'el2n-free'"
    ]


def test_a_score_of_ones_own_is_used(make, caplog):
    """Who says what a score is wants it read."""
    trainer = make(net=toy.model(num_labels=1))
    pruner = fastprune.attach(trainer, keep_fraction=0.5, score_fn=lambda outputs, _: outputs.logits[:, 0].square())
    assert pruner.method == Auto() and "evidence" not in caplog.text
    trainer.train()
    assert (pruner.history.value("el2n") > 0).all()


@pytest.mark.parametrize("net", [toy.model, toy.token_model])
def test_classes_were_measured(make, caplog, net):
    with caplog.at_level(logging.INFO, logger="fastprune"):
        pruner = fastprune.attach(make(net=net()), method=Auto(pool=0.5), keep_fraction=0.5)
    assert pruner.method == Auto(pool=0.5) and "evidence" not in caplog.text


def test_a_score_below_0_is_refused_before_the_first_step(make):
    """A draw in proportion to it is not possible."""
    trainer = make()
    fastprune.attach(trainer, keep_fraction=0.5, score_fn=lambda outputs, _: -outputs.logits[:, 0].square())
    with pytest.raises(ValueError, match="draws in proportion to 'el2n', and that of example .* 'el2n-free'"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_nothing_is_said_of_a_run_on_everything(make, caplog):
    fastprune.attach(make(net=toy.model(num_labels=1)), keep_fraction=1.0)
    assert "evidence" not in caplog.text


def test_other_methods_are_never_replaced(make):
    trainer = make(net=toy.model(num_labels=1))
    assert fastprune.attach(trainer, method="el2n-free", keep_fraction=0.5).method.name == "el2n-free"


def test_a_trainer_trains_by_auto(make):
    trainer = make(num_train_epochs=4)
    pruner = fastprune.attach(trainer, method="auto", keep_fraction=fastprune.Budget(0.3))
    trainer.train()
    read = len(trainer.trained_on)
    assert read == pytest.approx(0.3 * 4 * toy.N, rel=0.02, abs=8), "a budget of 0.3 needs no warm-up"
    (first, *_) = toy.logged(trainer, "prune/fallen")
    assert 0.0 <= first["prune/fallen"] < 1.0 and first["prune/pool"] in (0.4, 1.0) and first["prune/seen"] > 0.0
    assert torch.isfinite(pruner.history.value("el2n")[pruner.history.visits > 0]).all()
