"""TRL's SFTTrainer: scores from its own forward pass, passes without logits, and what is refused."""

from __future__ import annotations

import os

import pytest
import torch

pytest.importorskip("trl")

from helpers import tiny_trl as tiny  # noqa: E402
from transformers import (  # noqa: E402
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)
from trl import SFTConfig, SFTTrainer  # noqa: E402

import fastprune  # noqa: E402
from fastprune.integrations.trainer import trl as internals  # noqa: E402
from fastprune.integrations.trainer.readers import FusedHead  # noqa: E402
from fastprune.scores.metrics import KERNEL_METRICS  # noqa: E402


@pytest.fixture
def make(tmp_path):
    """Builds SFTTrainers.  Keyword arguments are those of SFTConfig and a few of the trainer."""

    def build(cls=SFTTrainer, net=None, data=None, folder="out", **settings):
        own = {k: settings.pop(k) for k in ("callbacks", "compute_loss_func", "peft_config") if k in settings}
        args = SFTConfig(output_dir=str(tmp_path / folder), **{**tiny.SETTINGS, **settings})
        data = tiny.texts() if data is None else data
        net = tiny.model() if net is None else net
        return cls(net, args=args, train_dataset=data, processing_class=tiny.tokenizer(), **own)

    return build


def expected(trainer, index, metric="el2n"):
    """Scores by `fastprune.Task` from whole logits, one example at a time."""
    task = fastprune.Task(fastprune.Head(kind="causal_lm"))
    trainer.model.eval()
    found = []
    for i in index.tolist():
        batch = trainer.data_collator([trainer.train_dataset[i]])
        given = {k: v for k, v in batch.items() if k in ("input_ids", "attention_mask", "position_ids")}
        with torch.no_grad():
            outputs = trainer.model(**given)
        found.append(task.scores(outputs, batch, [metric])[metric])
    return torch.cat(found)


KINDS = {
    "texts": (tiny.texts, {}),
    "completions": (tiny.completions, {"completion_only_loss": True}),
    "chats": (tiny.chats, {"assistant_only_loss": True}),
    "dft": (tiny.texts, {"loss_type": "dft"}),
    "accumulated": (tiny.texts, {"gradient_accumulation_steps": 2}),
    "checkpointed": (tiny.texts, {"gradient_checkpointing": True}),
    "padding-free": (tiny.texts, {"padding_free": True, "max_length": None}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_free_scores_cost_no_forward_pass(make, kind):
    data, settings = KINDS[kind]
    counts, seen = [], []
    for folder in ("plain", "attached"):
        trainer = make(data=data(), folder=folder, learning_rate=0.0, **settings)
        counted = tiny.Counted(trainer.model)
        if folder == "plain":
            trainer.train()
        else:
            with tiny.observed(fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free"), seen):
                trainer.train()
        counts.append(counted.backbone[True] / trainer.state.global_step)
    assert counts[0] == counts[1], "no extra forward in training"
    assert counted.backbone[False] == 1, "one batch is tried"
    assert counted.head == 0, "the head's module, which would make logits, never runs"
    everything = torch.cat([index for index, _ in seen])
    scores = torch.cat([scores["el2n"] for _, scores in seen])
    assert len(everything) >= len(trainer.train_dataset)
    torch.testing.assert_close(scores, expected(trainer, everything), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("padding_free", [False, True])
def test_a_scoring_pass_is_one_forward_a_batch_without_logits(make, padding_free):
    trainer = make(padding_free=padding_free, max_length=None, learning_rate=0.0)
    pruner = fastprune.attach(trainer, method="el2n", keep_fraction=0.5, score_batch_size=8)
    counted = tiny.Counted(trainer.model)
    trainer.train()
    assert counted.backbone[False] == 1 + 3, "one batch is tried, and 24 examples are scored"
    found = pruner.history.value("el2n")
    torch.testing.assert_close(found, expected(trainer, torch.arange(24)), rtol=1e-5, atol=1e-6)


def test_no_tensor_of_a_scoring_pass_is_as_large_as_the_logits(make):
    classes = 32768
    trainer = make(net=tiny.model(vocab_size=classes), learning_rate=0.0)
    fastprune.attach(trainer, method="el2n", keep_fraction=0.5, score_batch_size=24)
    rows = 24 * max(len(row["input_ids"]) for row in trainer.train_dataset)
    with tiny.Largest() as largest:
        trainer._fastprune.scores.scoring_pass(torch.arange(24))
    assert largest.elements < rows * classes / 3
    with tiny.Largest() as largest, torch.no_grad():
        trainer.model(input_ids=torch.zeros(24, rows // 24, dtype=torch.int64))
    assert largest.elements >= rows * classes, "the check sees whole logits"


def test_label_smoothing_is_scored_from_the_logits_that_trl_builds(make):
    trainer = make(label_smoothing_factor=0.1, learning_rate=0.0)
    counted, seen = tiny.Counted(trainer.model), []
    pruner = fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")
    with tiny.observed(pruner, seen):
        trainer.train()
    assert counted.backbone[True] == 2 * trainer.state.global_step, "as TRL alone"
    index, scores = seen[0]
    torch.testing.assert_close(scores["el2n"], expected(trainer, index), rtol=1e-5, atol=1e-6)


def test_a_loss_function_of_the_user_is_scored_from_its_logits(make):
    def loss(outputs, labels, num_items_in_batch=None):
        return fastprune.cross_entropy(outputs.logits, labels, shift=1, reduction="sum") / num_items_in_batch

    trainer = make(compute_loss_func=loss, learning_rate=0.0)
    counted, seen = tiny.Counted(trainer.model), []
    pruner = fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")
    with tiny.observed(pruner, seen):
        trainer.train()
    assert counted.backbone[True] == 2 * trainer.state.global_step, "as TRL alone"
    index, scores = seen[0]
    torch.testing.assert_close(scores["el2n"], expected(trainer, index), rtol=1e-5, atol=1e-6)


HEADS = {
    "one tile": (LlamaForCausalLM, LlamaConfig, {}),
    "two tiles": (LlamaForCausalLM, LlamaConfig, {"vocab_size": 40_000}),
    "softcap": (Gemma2ForCausalLM, Gemma2Config, {"head_dim": 8, "final_logit_softcapping": 5.0}),
    "scale": (CohereForCausalLM, CohereConfig, {"logit_scale": 0.25}),
}


@pytest.mark.parametrize("head", HEADS)
def test_every_metric_comes_from_the_tiles(make, head):
    kind, configuration, changes = HEADS[head]
    trainer = make(net=tiny.model(kind, configuration, **changes))
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(4)])
    trainer.model.eval()
    reader = FusedHead(trainer, KERNEL_METRICS)
    outcome = reader.run(type(trainer).compute_loss.__get__(trainer), trainer.model, dict(batch), False)
    found = outcome.outputs.rows(batch["labels"])
    with torch.no_grad():
        logits = trainer.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    whole = fastprune.score(logits, batch["labels"], KERNEL_METRICS, shift=1)
    for name in KERNEL_METRICS:
        torch.testing.assert_close(found.values[name], whole[name], rtol=5e-5, atol=2e-6)


def test_a_task_with_the_usual_head_may_say_how_tokens_are_reduced(make):
    trainer = make(learning_rate=0.0)
    counted = tiny.Counted(trainer.model)
    task = fastprune.Task(fastprune.Head(kind="causal_lm", reduce="max"))
    pruner = fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free", task=task)
    trainer.train()
    assert counted.backbone[True] == trainer.state.global_step
    found = pruner.history.value("el2n")
    assert found.max() <= 2**0.5 and (found < expected(trainer, torch.arange(24))).all()


def test_an_unknown_trl_refuses_free_scores_only(make, monkeypatch):
    monkeypatch.setattr(internals, "_BY_NAME", ("vocab_start", "columns"))
    with pytest.raises(
        ValueError, match=r"reads its scores inside of TRL 1.15 to 1.16, but TRL .* has other arguments"
    ):
        fastprune.attach(make(), keep_fraction=0.5, method="el2n-free")
    for method in ("random", "el2n"):
        trainer = make(folder=method)
        pruner = fastprune.attach(trainer, method=method, keep_fraction=0.5)
        trainer.train()
        assert len(pruner.kept_indices) == 12


def test_a_fused_head_that_does_something_else_is_refused_before_the_first_step(make, monkeypatch):
    watched = internals._watched

    def halved(fold, names, see):
        return watched(fold, names, lambda tile: see(tile._replace(logit_scale=0.5)))

    monkeypatch.setattr(internals, "_watched", halved)
    trainer = make()
    fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")
    with pytest.raises(RuntimeError, match="are not those of the tiles that it folded.*method='el2n'"):
        trainer.train()
    assert trainer.state.global_step == 0


class HeadlessForCausalLM(LlamaForCausalLM):
    def get_output_embeddings(self):
        return None


def test_what_hides_the_head_is_refused(make):
    trainer = make(net=tiny.model(HeadlessForCausalLM))
    with pytest.raises(ValueError, match="HeadlessForCausalLM has no output embedding.*such as 'random'"):
        fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")
    fastprune.attach(trainer, method="random", keep_fraction=0.5)
    trainer = make()
    trainer.args.torch_compile = True
    with pytest.raises(ValueError, match="torch_compile hides the tiles.*set torch_compile=False"):
        fastprune.attach(trainer, keep_fraction=0.5, method="el2n-free")


def test_virtual_tokens_of_prompt_tuning_have_no_score(make):
    peft = pytest.importorskip("peft")
    prompt = peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    found = []
    for method in ("el2n-free", "el2n"):
        trainer = make(peft_config=prompt, folder=method, learning_rate=0.0)
        pruner = fastprune.attach(trainer, method=method, keep_fraction=0.5)
        with torch.no_grad():
            for name, parameter in trainer.model.named_parameters():
                if "prompt" in name:
                    parameter.copy_(torch.linspace(-1, 1, parameter.numel()).reshape(parameter.shape))
        trainer.train()
        found.append(pruner.history.value("el2n"))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


def test_adapters_are_scored(make):
    peft = pytest.importorskip("peft")
    lora = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    for method in ("el2n-free", "el2n"):
        trainer = make(peft_config=lora, folder=method, learning_rate=0.0)
        counted = tiny.Counted(trainer.model)
        pruner = fastprune.attach(trainer, method=method, keep_fraction=0.5)
        trainer.train()
        assert counted.backbone[True] == trainer.state.global_step
        found = pruner.history.value("el2n")
        torch.testing.assert_close(found, expected(trainer, torch.arange(24)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["el2n-free", "infobatch"])
def test_a_run_goes_on_after_a_checkpoint(make, method):
    settings = {"num_train_epochs": 3, "save_strategy": "steps", "save_steps": 1, "neftune_noise_alpha": 5.0}
    whole = make(folder="whole", **settings)
    fastprune.attach(whole, method=method, keep_fraction=0.5)
    whole.train()
    again = make(folder="again", **settings)
    fastprune.attach(again, method=method, keep_fraction=0.5)
    again.train(resume_from_checkpoint=os.path.join(whole.args.output_dir, "checkpoint-5"))
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], value, rtol=0, atol=0, msg=name)


def test_attached_training_is_trl_training(make):
    """keep_fraction=1.0 changes nothing, and observing changes nothing of the warm-up."""
    weights = []
    for keep in (None, 1.0, 0.5):
        trainer = make(folder=str(keep), num_train_epochs=1)
        if keep is not None:
            fastprune.attach(trainer, keep_fraction=keep, method="el2n-free", warmup_epochs=1)
        trainer.train()
        weights.append(trainer.model.state_dict())
    for other in weights[1:]:
        assert all(torch.equal(other[name], value) for name, value in weights[0].items())
