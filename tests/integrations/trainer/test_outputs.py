"""Default scores for the kinds of heads Transformers has, against scores computed by hand."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
from helpers import toy_trainer as toy
from transformers import BertForSequenceClassification, GPT2Config, GPT2LMHeadModel, T5Config
from transformers.modeling_outputs import SequenceClassifierOutput

import fastprune
from fastprune.integrations.trainer.outputs import shifts_labels, task_of_model


def el2n_by_hand(logits, labels):
    onehot = torch.nn.functional.one_hot(labels, logits.shape[-1])
    return (logits.double().softmax(-1) - onehot).norm(dim=-1).float()


def scores_of(outputs, labels, net=None, metrics=("el2n",), **fields):
    inputs = {"labels": labels, **fields}
    names = ["labels", *(name for name in fields if "label" in name)]
    return task_of_model(inputs, names, net or torch.nn.Identity()).scores(outputs, inputs, metrics)


LOGITS, LABELS = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2, 1, 1])


@pytest.mark.parametrize(
    "outputs",
    [
        {"logits": LOGITS},
        SequenceClassifierOutput(loss=torch.tensor(1.0), logits=LOGITS),
        SimpleNamespace(logits=LOGITS),
        (torch.tensor(1.0), LOGITS),
        (LOGITS, torch.randn(4, 6, 8)),
    ],
    ids=["dict", "ModelOutput", "attribute", "tuple with loss", "tuple without loss"],
)
def test_finds_the_logits(outputs):
    torch.testing.assert_close(scores_of(outputs, LABELS)["el2n"], el2n_by_hand(LOGITS, LABELS))


def test_tokens_are_joined_by_their_norm():
    logits, labels = torch.randn(2, 5, 4), torch.tensor([[-100, 1, 2, 0, -100], [3, 3, -100, -100, -100]])
    rows = el2n_by_hand(logits, labels.clamp(min=0)) * (labels != -100)
    torch.testing.assert_close(scores_of((logits,), labels)["el2n"], rows.norm(dim=-1))


def test_causal_models_are_scored_against_the_next_token():
    torch.manual_seed(0)
    net = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=1)).eval()
    ids = torch.randint(0, 20, (3, 6))
    with torch.no_grad():
        outputs = net(input_ids=ids, labels=ids)
    scores = scores_of(outputs, ids, net, ("el2n", "loss"), input_ids=ids)
    expected = el2n_by_hand(outputs.logits[:, :-1], ids[:, 1:]).norm(dim=-1)
    torch.testing.assert_close(scores["el2n"], expected)
    assert set(scores) == {"el2n", "loss"}


@pytest.mark.parametrize(
    ("name", "encoder_decoder", "shifts"),
    [
        ("LlamaForCausalLM", False, True),
        ("BertLMHeadModel", False, True),
        ("LlavaForConditionalGeneration", False, True),
        ("T5ForConditionalGeneration", True, False),
        ("BertForMaskedLM", False, False),
        ("BertForTokenClassification", False, False),
    ],
)
def test_which_models_shift_their_labels(name, encoder_decoder, shifts):
    net = type(name, (torch.nn.Module,), {})()
    net.config = T5Config(is_encoder_decoder=encoder_decoder)
    assert shifts_labels(net) is shifts
    adapted = torch.nn.Identity()
    adapted.get_base_model = lambda: net  # as PEFT wraps it
    assert shifts_labels(adapted) is shifts


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_regression_is_scored_by_distance(shape):
    net = toy.model(BertForSequenceClassification, num_labels=1)
    predictions, labels = torch.tensor([1.0, -2.0, 0.5, 0.0]), torch.tensor([0.0, 1.0, 0.5, 2.0])
    found = scores_of({"logits": predictions.reshape(shape)}, labels, net, ("el2n", "loss"))
    assert found["el2n"].tolist() == [1.0, 3.0, 0.0, 2.0]
    assert found["loss"].tolist() == [1.0, 9.0, 0.0, 4.0]
    with pytest.raises(ValueError, match="'entropy' is not defined for regression"):
        scores_of({"logits": predictions}, labels, net, ("entropy",))


@pytest.mark.parametrize(
    ("outputs", "labels", "fields"),
    [
        ({"loss": torch.tensor(1.0)}, LABELS, {}),
        (SimpleNamespace(), LABELS, {}),
        ({"logits": LOGITS}, None, {}),
        ({"logits": LOGITS}, LABELS, {"slot_labels": LABELS}),
        ({"logits": LOGITS}, torch.rand(4, 2), {}),
        ({"logits": LOGITS}, torch.rand(4), {}),
    ],
    ids=["no logits", "nothing", "no labels", "two heads", "other shape", "real labels"],
)
def test_names_score_fn_where_there_is_no_default(outputs, labels, fields):
    with pytest.raises(ValueError, match="score_fn"):
        scores_of(outputs, labels, toy.model(), **fields)


def test_scores_carry_no_gradient():
    logits = LOGITS.clone().requires_grad_()
    assert not scores_of({"logits": logits}, LABELS)["el2n"].requires_grad


def test_a_model_with_two_heads_trains_with_a_task_or_score_fn(make):
    """The paper's joint score of intent and slots, as a user would write it."""
    import datasets
    from helpers import toy_trainer as toy
    from transformers import BertModel, BertPreTrainedModel

    class Joint(BertPreTrainedModel):
        def __init__(self, settings):
            super().__init__(settings)
            self.bert = BertModel(settings)
            self.intent, self.slots = torch.nn.Linear(32, 3), torch.nn.Linear(32, 4)
            self.post_init()

        def forward(self, input_ids, attention_mask=None, labels=None, slot_labels=None):
            hidden = self.bert(input_ids, attention_mask=attention_mask).last_hidden_state
            intent, slots = self.intent(hidden[:, 0]), self.slots(hidden)
            loss = torch.nn.functional.cross_entropy(intent, labels)
            loss = loss + torch.nn.functional.cross_entropy(slots.transpose(1, 2), slot_labels)
            return {"loss": loss, "intent_logits": intent, "slot_logits": slots}

    def joint(outputs, inputs):
        heads = {
            "intent": (outputs["intent_logits"], inputs["labels"]),
            "slots": (outputs["slot_logits"], inputs["slot_labels"]),
        }
        return fastprune.joint_el2n(heads)

    table = toy.rows()
    table["slot_labels"] = [[token % 4 for token in row] for row in table["input_ids"]]
    task = fastprune.Task(
        {
            "intent": fastprune.Head("intent_logits", "labels"),
            "slots": fastprune.Head("slot_logits", "slot_labels"),
        }
    )
    found = []
    for method, how in itertools.product(("el2n", "el2n-free"), ({"score_fn": joint}, {"task": task})):
        torch.manual_seed(0)
        trainer = make(net=Joint(toy.config()), data=datasets.Dataset.from_dict(table), num_train_epochs=2)
        pruner = fastprune.attach(trainer, keep_fraction=0.4, method=method, **how)
        trainer.train()
        assert len(pruner.kept_indices) == 20
        found.append(pruner.history.value("el2n"))
        assert found[-1].min() > 1.0  # seven rows of about 0.8 each, joined by their norm
    assert torch.equal(found[0], found[1]) and torch.equal(found[2], found[3])


def test_regression_of_several_outputs_is_told_by_the_models_configuration(make):
    import datasets

    table = toy.rows()
    table["labels"] = [[i / 7.0 - 3, float(i % 5)] for i in range(len(table["labels"]))]
    net = toy.model(num_labels=2, problem_type="regression")
    trainer = make(net=net, data=datasets.Dataset.from_dict(table), num_train_epochs=2, learning_rate=0.0)
    pruner = fastprune.attach(trainer, method="el2n", keep_fraction=0.5)
    trainer.train()
    with torch.no_grad():
        logits = net.eval()(input_ids=torch.tensor(table["input_ids"])).logits
    expected = (logits - torch.tensor(table["labels"])).norm(dim=1)
    torch.testing.assert_close(pruner.history.value("el2n"), expected, rtol=1e-5, atol=1e-6)
