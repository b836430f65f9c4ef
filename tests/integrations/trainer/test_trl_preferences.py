"""TRL's DPO, KTO and reward trainers: a score for each pair by default."""

from __future__ import annotations

import logging

import datasets
import pytest
import torch

trl = pytest.importorskip("trl")

from helpers import tiny_trl as tiny  # noqa: E402
from helpers import trl_trainers  # noqa: E402
from transformers import LlamaForSequenceClassification  # noqa: E402

import fastprune  # noqa: E402

N = 16


def dpo(folder, **settings):
    if "peft_config" not in settings:
        settings["ref_model"] = tiny.model()
    return trl_trainers.build(trl.DPOTrainer, trl.DPOConfig, folder, data=tiny.pairs(N), beta=0.5, **settings)


def reward(folder, **settings):
    net = tiny.model(LlamaForSequenceClassification, num_labels=1)
    data = tiny.pairs(N)
    return trl_trainers.build(trl.RewardTrainer, trl.RewardConfig, folder, net=net, data=data, **settings)


def kto(folder, **settings):
    pairs = tiny.pairs(N)
    rows = {
        "prompt": pairs["prompt"],
        "completion": [pairs["chosen" if i % 3 else "rejected"][i] for i in range(N)],
        "label": [bool(i % 3) for i in range(N)],
    }
    data = datasets.Dataset.from_dict(rows)
    return trl_trainers.build(
        trl.KTOTrainer, trl.KTOConfig, folder, data=data, beta=0.5, ref_model=tiny.model(), **settings
    )


BUILDERS = {"dpo": dpo, "reward": reward, "kto": kto}


def away_from_reference(trainer):
    """Move the policy, so that margins are not 0."""
    with torch.no_grad():
        torch.manual_seed(3)
        for parameter in trainer.model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))


def log_probability(net, batch):
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    with torch.no_grad():
        logits = net.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    return -fastprune.score(logits, labels, "loss", shift=1, reduce="sum")


def margins(trainer):
    """Of every example, one at a time."""
    found = []
    for i in range(N):
        batch = trainer.data_collator([trainer.train_dataset[i]])
        if isinstance(trainer, trl.RewardTrainer):
            with torch.no_grad():
                given = {name: batch[name] for name in ("input_ids", "attention_mask")}
                chosen, rejected = trainer.model.eval()(**given).logits.squeeze(-1)
        else:
            own, reference = (log_probability(net, batch) for net in (trainer.model, trainer.ref_model))
            chosen, rejected = trainer.beta * (own - reference)
        found.append(chosen - rejected)
    return torch.stack(found)


@pytest.mark.parametrize("method, metric", [("el2n-free", "el2n"), ("el2n", "el2n"), ("loss", "loss")])
@pytest.mark.parametrize("kind", ["dpo", "reward"])
def test_a_pair_scores_its_margin_as_a_choice_between_two(tmp_path, kind, method, metric):
    trainer = BUILDERS[kind](tmp_path, learning_rate=0.0)
    away_from_reference(trainer)
    pruner = fastprune.attach(trainer, method=method, keep_fraction=0.5)
    trainer.train()
    m = margins(trainer)
    wanted = {"el2n": 2**0.5 * torch.sigmoid(-m), "loss": torch.nn.functional.softplus(-m)}[metric]
    torch.testing.assert_close(pruner.history.value(metric), wanted, rtol=1e-4, atol=1e-6)
    assert m.std() > 0.01 and len(pruner.kept_indices) == N // 2


@pytest.mark.parametrize("kind", BUILDERS)
def test_free_scores_of_preferences_cost_no_forward_pass(tmp_path, kind):
    counts = []
    for folder in ("plain", "attached"):
        trainer = BUILDERS[kind](tmp_path / folder)
        calls = []
        trainer.model.register_forward_hook(lambda module, args, out, calls=calls: calls.append(module.training))
        if folder == "attached":
            fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free", warmup_epochs=1)
        trainer.train()
        counts.append(sum(calls) / trainer.state.global_step)
    assert counts[0] == counts[1]


def test_the_mean_of_the_pairs_losses_is_the_trainers_loss(tmp_path):
    trainer = dpo(tmp_path, learning_rate=0.0, num_train_epochs=1, logging_strategy="steps", logging_steps=1)
    away_from_reference(trainer)
    seen = []
    pruner = fastprune.attach(trainer, method="cartography", keep_fraction=0.5)
    with tiny.observed(pruner, seen):
        trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    for logged, (_, scores) in zip(losses, seen, strict=True):
        confidence = next(iter(scores.values()))
        assert -confidence.log().mean().item() == pytest.approx(logged, rel=1e-3)


@pytest.mark.parametrize("loss_type", ["kto", "apo_zero_unpaired"])
def test_kto_scores_its_own_losses(tmp_path, loss_type):
    trainer = kto(tmp_path, learning_rate=0.0, loss_type=loss_type, num_train_epochs=1)
    away_from_reference(trainer)
    seen = []
    pruner = fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free", warmup_epochs=1)
    losses, call = [], trainer.compute_loss

    def noting(*args, **kwargs):
        losses.append(float(call(*args, **kwargs)))
        return call(*args, **kwargs) * 0.0 + losses[-1]

    trainer.compute_loss = noting
    with tiny.observed(pruner, seen):
        trainer.train()
    assert len(seen) == len(losses)
    for loss, (index, scores) in zip(losses, seen, strict=True):
        assert scores["el2n"].shape == index.shape and scores["el2n"].std() > 0
        assert scores["el2n"].mean().item() / 2**0.5 == pytest.approx(loss, rel=1e-4)


def test_kto_prunes_in_the_order_of_its_sampler(tmp_path):
    trainer = kto(tmp_path)
    pruner = fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")
    trainer.train()
    assert len(pruner.kept_indices) == N // 2


def test_reference_log_probabilities_may_be_computed_before(tmp_path):
    trainer = dpo(tmp_path, learning_rate=0.0, precompute_ref_log_probs=True)
    away_from_reference(trainer)
    pruner = fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")
    trainer.train()
    assert pruner.history.value("el2n").std() > 0.001


def test_adapters_have_their_base_model_as_reference(tmp_path):
    peft = pytest.importorskip("peft")
    lora = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    trainer = dpo(tmp_path, learning_rate=0.0, peft_config=lora)
    pruner = fastprune.attach(trainer, method="el2n", keep_fraction=0.5)
    trainer.train()
    assert pruner.history.value("el2n").std() > 0.001


@pytest.mark.parametrize("kind", BUILDERS)
def test_weights_are_refused(tmp_path, kind):
    with pytest.raises(ValueError, match="overrides compute_loss, and method 'infobatch' weights the loss"):
        fastprune.attach(BUILDERS[kind](tmp_path), method="infobatch", keep_fraction=0.5)


@pytest.mark.parametrize("kind", BUILDERS)
def test_auto_is_rs2_for_preferences(kind, tmp_path, caplog):
    trainer = BUILDERS[kind](tmp_path)
    with caplog.at_level(logging.INFO, logger="fastprune"):
        pruner = fastprune.attach(trainer, method="auto", keep_fraction=0.5)
    assert pruner.method.name == "rs2"
    assert f"no evidence says which examples matter for TRL's {type(trainer).__name__}" in caplog.text
