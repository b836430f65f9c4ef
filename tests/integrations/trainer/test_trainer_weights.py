"""Methods that weight losses: the weights reach the loss, on the scale of the Trainer's own."""

from __future__ import annotations

import pytest
import torch
from helpers import older_trainers
from helpers import toy_trainer as toy
from torch.nn import functional as F
from transformers import BertForSequenceClassification, GPT2Config, GPT2LMHeadModel, TrainerCallback

import fastprune
from fastprune.pruning import Method
from fastprune.selection import Selection


class ByIndex(Method):
    """Keeps the first k, example i weighs 1 + i, or 1."""

    name = "by-index"
    weighted = True
    observes = True

    def __init__(self, scale: float, metric: str = "loss") -> None:
        self.scale = scale
        self.statistics = {metric: fastprune.Latest()}

    def select(self, history, k, *, cycle, epoch, seed):
        return Selection(torch.arange(k), 1.0 + self.scale * torch.arange(k))


class Gradients(TrainerCallback):
    """The gradient of every optimizer step."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.seen.append(torch.cat([p.grad.flatten().clone() for p in model.parameters() if p.grad is not None]))


def frozen(make, net, scale, *, warmup=0, data=None, method=None, **settings):
    """A run at learning rate 0: every step's gradient is that of the first weights; dropout is off."""
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout_prob"):  # attention's own, before Transformers 5
            module.dropout_prob = 0.0
    gradients = Gradients()
    defaults = {"num_train_epochs": 1, "learning_rate": 0.0, "max_grad_norm": 0.0, "per_device_train_batch_size": 5}
    trainer = make(net=net, data=data, callbacks=[gradients], **{**defaults, **settings})
    trainer.eval_dataset = None
    pruner = None
    if scale is not None:
        pruner = fastprune.attach(trainer, keep_fraction=0.4, warmup_epochs=warmup, method=ByIndex(scale))
    trainer.train()
    return trainer, pruner, gradients.seen


def causal_lm():
    torch.manual_seed(0)
    sizes = {"vocab_size": toy.VOCABULARY, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 1}
    return GPT2LMHeadModel(GPT2Config(**sizes, attn_pdrop=0, resid_pdrop=0, embd_pdrop=0))


def language_rows():
    table = toy.rows()
    # Some tokens do not count, unequally many in the examples of a batch.
    labels = [[-100 if t < i % 4 else token for t, token in enumerate(row)] for i, row in enumerate(table["input_ids"])]
    return {**table, "labels": labels}


def token_rows():
    table = toy.rows()
    return {**table, "labels": [[-100, *(token % 3 for token in row[1:])] for row in table["input_ids"]]}


def dataset(table):
    import datasets

    return datasets.Dataset.from_dict(table)


def several_labels():
    return {**toy.rows(), "labels": [[float(i % 2), float(i % 3 == 0), 1.0] for i in range(toy.N)]}


def real_labels():
    return {**toy.rows(), "labels": [float(i % 7) / 7 for i in range(toy.N)]}


CASES = {
    "classes": (lambda: toy.model(), toy.rows),
    "tokens": (toy.token_model, token_rows),
    "causal": (causal_lm, language_rows),
    "multi-label": (lambda: toy.model(problem_type="multi_label_classification"), several_labels),
    "regression": (lambda: toy.model(BertForSequenceClassification, num_labels=1), real_labels),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("accumulation", [1, 2])
def test_weights_of_one_change_nothing_but_rounding(make, case, accumulation):
    """The loss is the Trainer's own, with its num_items_in_batch and accumulation."""
    build, table = CASES[case]
    settings = {"gradient_accumulation_steps": accumulation, "num_train_epochs": 1}
    trainer, _, plain = frozen(make, build(), None, data=dataset(table()), **settings)
    _, _, ours = frozen(make, build(), 0.0, warmup=1, data=dataset(table()), **settings)
    assert len(plain) == len(ours) > 1
    # Transformers 5 leaves the scaling to every model whose forward has **kwargs, and these do not scale.
    unscaled = trainer.model_accepts_loss_kwargs and case != "causal"
    for one, other in zip(plain, ours, strict=True):
        torch.testing.assert_close(
            one / (accumulation if unscaled else 1), other, rtol=1e-4, atol=1e-6 * float(one.abs().max())
        )


def expected_gradient(net, batch, kind, weights, items):
    """Σ w_i l_i / items, by hand in double."""
    net = net.double().eval()
    net.zero_grad()
    inputs = {k: torch.tensor(v) for k, v in batch.items()}
    labels = inputs.pop("labels")
    logits = net(**inputs).logits
    if kind == "causal":
        logits, labels = logits[:, :-1], labels[:, 1:]
    if kind in ("tokens", "causal"):
        each = F.cross_entropy(logits.mT, labels, reduction="none").sum(1)
    elif kind == "multi-label":
        each = F.binary_cross_entropy_with_logits(logits, labels.double(), reduction="none").sum(1)
    elif kind == "regression":
        each = (logits.squeeze(-1) - labels).square()
    else:
        each = F.cross_entropy(logits, labels, reduction="none")
    ((each * weights).sum() / items).backward()
    return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]).float()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_gradient_is_that_of_the_weighted_losses(make, case, accumulation):
    build, table = CASES[case]
    net, columns = build(), table()
    settings = {"gradient_accumulation_steps": accumulation, "num_train_epochs": 2}
    trainer, _, seen = frozen(make, net, 0.5, warmup=1, data=dataset(columns), **settings)
    examples = trainer.trained_on
    assert sorted(examples[: toy.N]) == list(range(toy.N)) and sorted(examples[toy.N :]) == list(range(20))
    step = 5 * accumulation
    assert len(seen) == 70 / step
    for number, gradient in enumerate(seen):
        chosen = examples[number * step : (number + 1) * step]
        batch = {k: [v[i] for i in chosen] for k, v in columns.items()}
        labels = torch.tensor(batch["labels"])
        # What this version of transformers counts: since 5 a causal model's first token has no loss.
        counted = labels[..., 1:] if case == "causal" and getattr(trainer, "_loss_shifts_labels", False) else labels
        weights = 1.0 + 0.5 * torch.tensor(chosen, dtype=torch.float64) * (number * step >= toy.N)
        expected = expected_gradient(build(), batch, case, weights, counted.ne(-100).sum())
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))


def test_label_smoothing_is_kept(make):
    settings = {"label_smoothing_factor": 0.2}
    _, _, plain = frozen(make, toy.model(), None, **settings)
    _, _, ours = frozen(make, toy.model(), 0.0, warmup=1, **settings)
    for one, other in zip(plain, ours, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6 * float(one.abs().max()))


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_loss_function_of_the_user_returns_the_losses_of_the_examples(make, accumulation):
    def doubled(outputs, labels, num_items_in_batch=None):
        return 2.0 * F.cross_entropy(outputs["logits"], labels, reduction="none")

    settings = {"warmup": 1, "num_train_epochs": 2, "gradient_accumulation_steps": accumulation}
    _, _, own = frozen(make, toy.model(), 0.5, **settings)
    _, _, ours = frozen(make, toy.model(), 0.5, compute_loss_func=doubled, **settings)
    for one, other in zip(own, ours, strict=True):
        torch.testing.assert_close(2.0 * one, other, rtol=1e-4, atol=1e-6 * float(one.abs().max()))


def scalar(outputs, labels, num_items_in_batch=None):
    return F.cross_entropy(outputs["logits"], labels)


class OwnLoss(toy.Recorder):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)


class Penalised(BertForSequenceClassification):
    """A model whose loss is more than the mean of its examples'."""

    def forward(self, input_ids, attention_mask=None, labels=None):
        outputs = super().forward(input_ids, attention_mask=attention_mask, labels=labels)
        if outputs.loss is not None:
            outputs.loss = outputs.loss + 0.1 * self.classifier.weight.square().sum() + 0.5
        return outputs


def test_losses_that_cannot_be_weighted_are_refused(make):
    trainer = make(compute_loss_func=scalar)
    fastprune.attach(trainer, keep_fraction=0.5, method="infobatch")
    with pytest.raises(ValueError, match=r"compute_loss_func returned \(\) for a batch of 8.*\(B,\)"):
        trainer.train()
    # As TRL's SFTTrainer: with a compute_loss_func it would be refused likewise.
    for settings in ({}, {"compute_loss_func": doubled}):
        with pytest.raises(
            ValueError, match="OwnLoss overrides compute_loss.*choose a method without weights"
        ) as refused:
            fastprune.attach(make(OwnLoss, **settings), keep_fraction=0.5, method="repb")
        assert "pass Trainer(compute_loss_func=...)" not in str(refused.value)
    trainer = make(net=Penalised(toy.config()))
    fastprune.attach(trainer, keep_fraction=0.5, method="infobatch")
    with pytest.raises(ValueError, match="a loss of its own"):
        trainer.train()
    # None of them matters where nothing is pruned, or nothing weighted.
    fastprune.attach(make(OwnLoss), keep_fraction=1.0, method="repb")
    fastprune.attach(make(OwnLoss), keep_fraction=0.5, method="orderdp")


def test_a_score_fn_does_not_advise_itself_where_losses_are_weighted(make):
    net, table, how, settings = two_heads()
    trainer = make(net=net, data=dataset(table), **settings)
    fastprune.attach(trainer, keep_fraction=0.5, method="infobatch", score_fn=lambda outputs, inputs: inputs["one"])
    advice = "has \\['one', 'two'\\] of .*: pass attach.task=.*as no score_fn gives the losses"
    with pytest.raises(ValueError, match=older_trainers.REFUSAL if older_trainers.LOSS_NEEDS_LABELS else advice):
        trainer.train()


class LabelsRequired(BertForSequenceClassification):
    def forward(self, labels, input_ids=None, attention_mask=None):
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, labels=labels)


class LabelsUsed(BertForSequenceClassification):
    def forward(self, input_ids=None, attention_mask=None, labels=None):
        logits = super().forward(input_ids=input_ids, attention_mask=attention_mask).logits
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


class LogitsWithLabels(LabelsUsed):
    def forward(self, input_ids=None, attention_mask=None, labels=None):
        return {} if labels is None else super().forward(input_ids, attention_mask, labels)


class FailsLater(BertForSequenceClassification):
    calls = 0

    def forward(self, input_ids=None, attention_mask=None, labels=None):
        self.calls += 1
        if self.calls > 4:
            raise ValueError("of its own")
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, labels=labels)


@pytest.mark.parametrize("kind", [LabelsRequired, LabelsUsed, LogitsWithLabels])
def test_a_model_that_does_not_go_without_labels_is_told_of(make, kind):
    trainer = make(net=toy.model(kind))
    fastprune.attach(trainer, keep_fraction=0.5, method="infobatch")
    with pytest.raises(ValueError, match=f"{kind.__name__}.forward needs the labels, and method 'infobatch' weights"):
        trainer.train()
    trainer = make(net=toy.model(kind), max_steps=1)
    fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")
    trainer.train()


def test_a_models_own_error_in_a_later_step_stays_what_it_is(make):
    trainer = make(net=toy.model(FailsLater))
    fastprune.attach(trainer, keep_fraction=0.5, method="infobatch")
    with pytest.raises(ValueError, match="^of its own$"):
        trainer.train()


def test_evaluation_is_not_weighted(make):
    losses = []
    for method in ("infobatch", None):
        trainer = make(net=toy.model(), learning_rate=0.0, num_train_epochs=4, eval_strategy="epoch")
        if method:
            fastprune.attach(trainer, keep_fraction=0.5, method=method)
        trainer.train()
        losses.append([e["eval_loss"] for e in trainer.state.log_history if "eval_loss" in e][-1])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def two_heads():
    class Two(BertForSequenceClassification):
        def forward(self, input_ids=None, attention_mask=None, one=None, two=None):
            logits = super().forward(input_ids=input_ids, attention_mask=attention_mask).logits
            loss = None if one is None else F.cross_entropy(logits, one) + F.cross_entropy(-logits, two)
            return {"loss": loss, "logits": logits, "others": -logits}

    table = toy.rows()
    table["one"] = table.pop("labels")
    table["two"] = [(label + 1) % 3 for label in table["one"]]
    task = fastprune.Task({"a": fastprune.Head(labels="one"), "b": fastprune.Head("others", "two")})
    return toy.model(Two), table, {"task": task}, {"label_names": ["one", "two"]}


def one_other_name():
    class Named(BertForSequenceClassification):
        def forward(self, input_ids=None, attention_mask=None, target=None):
            return super().forward(input_ids=input_ids, attention_mask=attention_mask, labels=target)

    table = toy.rows()
    table["target"] = table.pop("labels")
    return toy.model(Named), table, {}, {"label_names": ["target"]}


def doubled(outputs, labels, num_items_in_batch=None):
    return 2 * F.cross_entropy(outputs["logits"], labels, reduction="none")


@pytest.mark.parametrize(
    "case",
    [
        two_heads,
        one_other_name,
        lambda: (toy.model(), toy.rows(), {}, {"compute_loss_func": doubled}),
        lambda: (causal_lm(), language_rows(), {}, {}),
        lambda: (toy.model(), toy.rows(), {}, {"label_smoothing_factor": 0.2}),
    ],
    ids=["two heads", "another name", "own loss", "causal LM", "smoothing"],
)
def test_evaluation_is_that_of_the_trainer_alone(make, case):
    """The weights are those of the training examples; at learning rate 0 nothing else may move the loss."""
    losses = []
    for method in (None, "infobatch"):
        net, table, how, settings = case()
        data = dataset(table)
        settings = {"num_train_epochs": 3, "learning_rate": 0.0, "eval_strategy": "epoch", **settings}
        trainer = make(net=net, data=data, per_device_train_batch_size=7, **settings)
        trainer.eval_dataset = data.select(range(20))
        if method is not None:
            fastprune.attach(trainer, keep_fraction=0.5, method=method, final_share=0.0, **how)
        before = trainer.evaluate()["eval_loss"]
        losses.append(before)
        if method is None:
            continue
        if older_trainers.LOSS_NEEDS_LABELS and "labels" not in table:
            with pytest.raises(ValueError, match=older_trainers.REFUSAL):
                trainer.train()
            assert trainer.evaluate()["eval_loss"] == before, "its evaluation is its own all the same"
            continue
        trainer.train()
        found = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
        assert len(found) >= 3 and found[-3:] == [before] * 3
    assert losses[0] == losses[1]
