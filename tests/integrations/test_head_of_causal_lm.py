"""Hidden states and head of causal language models: together they give the model's own logits."""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

import fastprune
from fastprune.integrations.causal_lm import check_head, example_scores, hidden_states, output_head, plain_model

SMALL = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
}
KINDS = {
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32},
    "llama": {"num_key_value_heads": 1},
    "gemma2": {"num_key_value_heads": 1, "head_dim": 8, "final_logit_softcapping": 0.5},
    "cohere": {"num_key_value_heads": 2, "logit_scale": 0.25},
    "granite": {"num_key_value_heads": 2, "logits_scaling": 4.0},
    "gpt_neox": {},
    "phi": {},  # its head has a bias
}


def model_of(kind: str):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SMALL, **KINDS[kind]}))
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(value)
    return model.eval()


def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(1, 50, (3, 9), generator=torch.Generator().manual_seed(1))
    attention = torch.ones_like(ids)
    attention[1, 6:] = 0
    return {"input_ids": ids, "attention_mask": attention, "labels": ids.masked_fill(attention == 0, -100)}


def adapted(kind: str = "llama", **settings):
    peft = pytest.importorskip("peft")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = peft.get_peft_model(model_of(kind), peft.LoraConfig(r=2, task_type="CAUSAL_LM", **settings))
        for name, value in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(value)
    return model.eval()


def models():
    yield from (pytest.param(lambda kind=kind: model_of(kind), id=kind) for kind in KINDS)
    yield pytest.param(lambda: adapted(target_modules=["q_proj"]), id="lora")
    yield pytest.param(lambda: adapted(target_modules=["q_proj", "lm_head"]), id="lora on the head")
    yield pytest.param(lambda: adapted(target_modules=["q_proj"], modules_to_save=["lm_head"]), id="saved head")


@pytest.mark.parametrize("build", list(models()))
@torch.no_grad()
def test_scores_are_those_of_the_models_logits(build) -> None:
    model, inputs = build(), batch()
    check_head(model, inputs)
    head = output_head(model)
    found = fastprune.linear_score(
        hidden_states(model, inputs), head.weight, inputs["labels"], bias=head.bias, softcap=head.softcap,
        logit_scale=head.logit_scale, shift=1,
    )  # fmt: skip
    expected = fastprune.score(model(**inputs).logits, inputs["labels"], ("el2n", "loss"), shift=1)
    for metric in ("el2n", "loss"):
        torch.testing.assert_close(found[metric], expected[metric], rtol=2e-5, atol=1e-6)


@torch.no_grad()
def test_scores_of_examples_are_those_of_a_task() -> None:
    model, inputs = model_of("llama"), batch()
    metrics = ("el2n", "loss", "entropy", "correct", "margin")
    logits = model(**inputs).logits
    rows = fastprune.score(logits, inputs["labels"], metrics, shift=1)
    counted = torch.nn.functional.pad(inputs["labels"][:, 1:] != -100, (0, 1), value=False)
    expected = fastprune.Task(fastprune.Head(kind="causal_lm")).scores({"logits": logits}, inputs, metrics)
    found = example_scores(rows, counted)
    assert found.keys() == expected.keys()
    for metric, values in found.items():
        torch.testing.assert_close(values, expected[metric])


def test_the_backbone_runs_once_and_the_head_never() -> None:
    model, calls = model_of("llama"), []
    model.model.register_forward_hook(lambda *_: calls.append("backbone"))
    model.lm_head.register_forward_hook(lambda *_: calls.append("head"))
    assert hidden_states(model, batch()).shape == (3, 9, 16)
    assert calls == ["backbone"]


def test_gradients_reach_adapters_on_the_head() -> None:
    model = adapted(target_modules=["lm_head"])
    head = output_head(model)
    (hidden_states(model, batch()) @ head.weight.T).square().mean().backward()
    grads = [value.grad for name, value in model.named_parameters() if "lora_" in name]
    assert grads and all(grad is not None and grad.abs().sum() > 0 for grad in grads)


def test_what_wraps_a_model_is_taken_off() -> None:
    model = model_of("llama")
    assert plain_model(torch.compile(model)) is model
    assert plain_model(adapted(target_modules=["q_proj"])).__class__.__name__ == "LlamaForCausalLM"


def test_a_model_without_an_output_embedding_is_refused() -> None:
    model = transformers.LlamaModel(transformers.LlamaConfig(**SMALL))
    with pytest.raises(ValueError, match="LlamaModel has no output embedding.*; pass a model whose"):
        output_head(model)
    with pytest.raises(ValueError, match="LlamaModel has no backbone apart from its head; pass"):
        hidden_states(model, batch())


def test_a_head_that_is_more_than_its_last_layer_is_refused() -> None:
    bert = transformers.BertLMHeadModel(transformers.BertConfig(**SMALL, is_decoder=True)).eval()
    with pytest.raises(ValueError, match="logits of BertLMHeadModel are not its output embedding times its hidden"):
        check_head(bert, batch())


def test_tokens_of_the_prompts_own_are_refused() -> None:
    peft = pytest.importorskip("peft")
    config = peft.PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")
    with pytest.raises(ValueError, match="PromptTuningConfig puts tokens of its own before each prompt.*; use LoRA"):
        hidden_states(peft.get_peft_model(model_of("llama"), config), batch())
