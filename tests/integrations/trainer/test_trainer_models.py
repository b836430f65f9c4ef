"""Adapters and language models in a Trainer: LoRA, causal models, GraNd of the last layer, the best model."""

from __future__ import annotations

import os

import datasets
import pytest
import torch
from helpers import older_trainers
from helpers import toy_trainer as toy
from transformers import BertForQuestionAnswering, GPT2Config, GPT2LMHeadModel

import fastprune


def lora(net, **settings):
    peft = pytest.importorskip("peft")
    torch.manual_seed(1)
    return peft.get_peft_model(net, peft.LoraConfig(r=2, lora_dropout=0.1, **settings))


def classifier():
    return lora(toy.model(), task_type="SEQ_CLS", target_modules=["query", "value"])


def language_model():
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=toy.VOCABULARY, n_positions=8, n_embd=8, n_layer=1, n_head=1))


def adapted_language_model():
    return lora(language_model(), task_type="CAUSAL_LM", target_modules=["c_attn"])


def language_data():
    table = toy.rows()
    return datasets.Dataset.from_dict({**table, "labels": table["input_ids"]})


@pytest.mark.parametrize("method", ["el2n", "el2n-free", "infobatch", "grand"])
@pytest.mark.parametrize(
    "build, data",
    [(classifier, lambda: None), (adapted_language_model, language_data), (language_model, language_data)],
)
def test_adapters_and_language_models_prune_and_resume(make, build, data, method):
    settings = {
        "data": data(),
        "num_train_epochs": 4,
        "per_device_train_batch_size": 5,
        "save_strategy": "steps",
        "save_steps": 1,
    }
    trainers = []
    for folder in ("whole", "again"):
        trainer = make(net=build(), folder=folder, callbacks=[toy.SaveThere(17)], **settings)
        trainer.eval_dataset = None
        pruner = fastprune.attach(trainer, keep_fraction=0.5, method=method)
        first = folder == "whole"
        checkpoint = None if first else os.path.join(trainers[0].args.output_dir, "checkpoint-17")
        trainer.train(resume_from_checkpoint=checkpoint)
        trainers.append(trainer)
    whole, again = trainers
    assert len(pruner.kept_indices) == 25 if method != "infobatch" else toy.N
    assert again.batches == whole.batches[17:]
    toy.assert_same_weights(again, whole)


def test_grand_is_the_gradient_of_the_classifier(make):
    trainer = make(num_train_epochs=2, learning_rate=0.0)
    pruner = fastprune.attach(trainer, keep_fraction=0.4, method="grand")
    trainer.train()
    net = trainer.model.eval()
    expected = []
    for i in range(toy.N):
        net.zero_grad()
        example = {k: torch.tensor(v[i : i + 1]) for k, v in toy.rows().items()}
        net(**example).loss.backward()
        parts = [p.grad.flatten() for p in net.classifier.parameters()]
        expected.append(torch.cat(parts).norm())
    torch.testing.assert_close(pruner.history.value("grand"), torch.stack(expected), rtol=1e-4, atol=1e-7)


def test_the_score_of_a_text_may_be_the_mean_of_its_tokens(make):
    found = {}
    for reduce in ("norm", "mean"):
        trainer = make(net=language_model(), data=language_data(), num_train_epochs=2, learning_rate=0.0)
        trainer.eval_dataset = None
        task = fastprune.Task(fastprune.Head(kind="causal_lm", reduce=reduce))
        pruner = fastprune.attach(trainer, method="el2n", keep_fraction=0.4, task=task)
        trainer.train()
        found[reduce] = pruner.history.value("el2n")
    assert (found["norm"] > found["mean"]).all() and found["mean"].max() < 2**0.5


def test_the_best_model_is_loaded_at_the_end(make):
    accuracies = iter([0.1, 0.9, 0.2, 0.3])
    trainer = make(
        num_train_epochs=4,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        save_total_limit=1,
        compute_metrics=lambda _: {"accuracy": next(accuracies)},
    )
    fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")
    trainer.train()
    best = trainer.state.best_model_checkpoint
    assert os.listdir(trainer.args.output_dir) == [os.path.basename(best)], "as without fastprune"
    saved = type(trainer.model).from_pretrained(best)
    toy.assert_same_weights(trainer, saved.state_dict())


def question_rows():
    """Answers among six tokens; every fifth was cut off, as a tokenizer that truncates leaves it."""
    table = toy.rows()
    del table["labels"]
    places = [(i % 4, i % 4 + i % 3) if i % 5 else (6, 9) for i in range(toy.N)]
    return {**table, "start_positions": [s for s, _ in places], "end_positions": [e for _, e in places]}


@pytest.mark.parametrize("method", ["el2n", "el2n-free", "infobatch"])
def test_question_answering_is_understood_without_a_task(make, method):
    """Each end is a choice among the tokens; the score is the mean of the two, and 0 where neither is there."""
    table, net = question_rows(), toy.model(BertForQuestionAnswering, num_labels=2)
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0
    settings = {"num_train_epochs": 2, "learning_rate": 0.0, "per_device_train_batch_size": 5}
    trainer = make(net=net, data=datasets.Dataset.from_dict(table), **settings)
    trainer.eval_dataset = None
    pruner = fastprune.attach(trainer, keep_fraction=0.5, method=method, final_share=0.0)
    if older_trainers.LOSS_NEEDS_LABELS and method == "infobatch":
        with pytest.raises(ValueError, match=older_trainers.REFUSAL):
            trainer.train()
        return
    trainer.train()
    columns = {name: torch.tensor(column) for name, column in table.items()}
    with torch.no_grad():
        outputs = net.eval()(input_ids=columns["input_ids"], attention_mask=columns["attention_mask"])
    metric = pruner.history.reads[0]
    found, total = [], torch.zeros(toy.N)
    for end in ("start", "end"):
        logits, places = outputs[f"{end}_logits"], f"{end}_positions"
        inside = columns[places] < 6
        score = fastprune.score(logits, columns[places].clamp(max=5), metric)
        total += torch.where(inside, score, 0.0)
        found.append(inside)
    expected = total / torch.stack(found).sum(0).clamp(min=1)
    torch.testing.assert_close(pruner.history.value(metric), expected, rtol=1e-4, atol=1e-6)
    assert len(set(trainer.trained_on[toy.N :])) == len(pruner.kept_indices) == toy.N // 2
