"""Causal language models in a plain Trainer: a scoring pass scores the hidden states that the head is given."""

from __future__ import annotations

import datasets
import pytest
import torch
from helpers import tiny_trl as tiny
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Trainer,
    TrainingArguments,
)
from transformers.modeling_outputs import CausalLMOutput

import fastprune
from fastprune.integrations.logit_transform import Transform, transform_of
from fastprune.integrations.trainer.output_head import output_head

N = 24
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "qwen2, tied": (Qwen2ForCausalLM, Qwen2Config, {"tie_word_embeddings": True}),
    "gemma2, softcap": (Gemma2ForCausalLM, Gemma2Config, {"head_dim": 8, "final_logit_softcapping": 5.0}),
    "cohere, scale": (CohereForCausalLM, CohereConfig, {"logit_scale": 0.25}),
    "granite, divided": (GraniteForCausalLM, GraniteConfig, {"logits_scaling": 4.0}),
}


def data(width=9):
    ids = [[4 + (i * 7 + j * (1 + i % 4)) % 60 for j in range(width)] for i in range(N)]
    labels = [[-100] * (i % 4) + row[i % 4 :] for i, row in enumerate(ids)]
    return datasets.Dataset.from_dict({"input_ids": ids, "attention_mask": [[1] * width] * N, "labels": labels})


@pytest.fixture
def make(tmp_path):
    def build(net, cls=Trainer, **settings):
        known = {name: value for name, value in tiny.SETTINGS.items() if name != "max_length"}
        args = TrainingArguments(str(tmp_path), **{**known, "learning_rate": 0.0, **settings})
        return cls(net, args, train_dataset=data())

    return build


def expected(net, metric="el2n"):
    rows = {name: torch.tensor(column) for name, column in data().to_dict().items()}
    with torch.no_grad():
        outputs = net.eval()(input_ids=rows["input_ids"], attention_mask=rows["attention_mask"])
    return fastprune.Task(fastprune.Head(kind="causal_lm")).scores(outputs, rows, [metric])[metric]


class OfHead:
    """Whether linear_score was used."""

    def __init__(self, monkeypatch):
        from fastprune.integrations.trainer import output_head

        self.calls, self._score = 0, output_head.linear_score
        monkeypatch.setattr(output_head, "linear_score", self)

    def __call__(self, *args, **kwargs):
        self.calls += 1
        return self._score(*args, **kwargs)


@pytest.mark.parametrize("method, metric", [("el2n", "el2n"), ("loss", "loss")])
@pytest.mark.parametrize("name", MODELS)
def test_scores_of_hidden_states_are_those_of_the_logits(make, monkeypatch, name, method, metric):
    kind, configuration, changes = MODELS[name]
    net = tiny.model(kind, configuration, **changes)
    used, trainer = OfHead(monkeypatch), make(net)
    pruner = fastprune.attach(trainer, method=method, keep_fraction=0.5)
    trainer.train()
    assert used.calls == 1 + 2, "one batch is tried, and 24 examples are scored 16 at a time"
    torch.testing.assert_close(pruner.history.value(metric), expected(net, metric), rtol=2e-5, atol=1e-6)


def test_a_pass_makes_nothing_of_the_size_of_the_logits(make):
    classes = 32768
    net = tiny.model(vocab_size=classes)
    trainer = make(net)
    fastprune.attach(trainer, method="el2n", keep_fraction=0.5, score_batch_size=N)
    with tiny.Largest() as largest:
        trainer._fastprune.scores.scoring_pass(torch.arange(N))
    assert largest.elements < N * 9 * classes / 3
    with tiny.Largest() as largest, torch.no_grad():
        net(input_ids=torch.zeros(N, 9, dtype=torch.int64))
    assert largest.elements >= N * 9 * classes, "the check sees whole logits"


class ShiftedForCausalLM(LlamaForCausalLM):
    """Does something to its logits that no configuration tells."""

    def forward(self, input_ids=None, attention_mask=None, labels=None):
        outputs = super().forward(input_ids=input_ids, attention_mask=attention_mask, labels=labels)
        outputs.logits = outputs.logits * torch.linspace(0.5, 2.0, outputs.logits.shape[-1])
        return outputs


class OwnHead(torch.nn.Linear):
    def forward(self, hidden):
        return super().forward(hidden).square()


class FlatForCausalLM(LlamaForCausalLM):
    """Gives its head rows of tokens."""

    def forward(self, input_ids=None, attention_mask=None, labels=None):
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        logits = self.lm_head(hidden.flatten(0, 1)).unflatten(0, hidden.shape[:2])
        loss = None if labels is None else fastprune.cross_entropy(logits, labels, shift=1)
        return CausalLMOutput(loss=loss, logits=logits)


class OwnHeadForCausalLM(LlamaForCausalLM):
    def __init__(self, config):
        super().__init__(config)
        self.lm_head = OwnHead(config.hidden_size, config.vocab_size, bias=False)


class HeadlessForCausalLM(LlamaForCausalLM):
    def get_output_embeddings(self):
        return None


@pytest.mark.parametrize(
    "kind, reason",
    [
        (ShiftedForCausalLM, "does more to its logits"),
        (FlatForCausalLM, "does more to its logits"),
        (OwnHeadForCausalLM, "is a OwnHead with a forward of"),
        (HeadlessForCausalLM, "no output embed"),
    ],
)
def test_a_model_with_other_logits_is_scored_from_them(make, caplog, kind, reason):
    net = tiny.model(kind)
    trainer = make(net)
    pruner = fastprune.attach(trainer, method="el2n", keep_fraction=0.5)
    trainer.train()
    assert reason in caplog.text and caplog.text.count("makes all logits") == 1
    torch.testing.assert_close(pruner.history.value("el2n"), expected(net), rtol=2e-5, atol=1e-6)


class OwnLoss(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        outputs.logits = outputs.logits * 2
        return (outputs.loss, outputs) if return_outputs else outputs.loss


def test_the_outputs_of_an_own_compute_loss_are_scored(make, monkeypatch):
    used = OfHead(monkeypatch)
    trainer = make(tiny.model(), OwnLoss)
    fastprune.attach(trainer, method="el2n", keep_fraction=0.5)
    trainer.train()
    assert used.calls == 0


def test_heads_of_adapters_are_found():
    peft = pytest.importorskip("peft")
    settings = {"r": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    saved = peft.get_peft_model(tiny.model(), peft.LoraConfig(**settings, modules_to_save=["lm_head"]))
    assert isinstance(output_head(saved), torch.nn.Linear)
    adapted = peft.get_peft_model(tiny.model(), peft.LoraConfig(**{**settings, "target_modules": ["lm_head"]}))
    assert "forward of its own" in output_head(adapted)


@pytest.mark.parametrize(
    "settings, transform",
    [
        ({}, Transform()),
        ({"logit_scale": 0.0625}, Transform(scale=0.0625)),
        ({"logit_scale": None, "lm_head_multiplier": 0.5}, Transform(scale=0.5)),
        ({"logits_scaling": 8.0}, Transform(scale=0.125)),
        ({"logits_scaling": 8.0, "model_type": "hyperclovax"}, Transform(scale=8.0)),
        ({"final_logit_softcapping": 30.0}, Transform(softcap=30.0)),
    ],
)
def test_the_configuration_tells_what_is_done_to_the_logits(settings, transform):
    assert transform_of(type("Config", (), settings)()) == transform
