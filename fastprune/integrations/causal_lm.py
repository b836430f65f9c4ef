"""The parts of a causal language model: the hidden states of a batch, and the head that makes logits of them.

`fastprune.linear_score` and `fastprune.linear_cross_entropy` take both, and so nobody needs the logits themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastprune.integrations.logit_transform import Transform, transform_of
from fastprune.scores.definition import shifted_labels
from fastprune.scores.metrics import TABLE
from fastprune.scores.reduce import reduce_tokens

IGNORED = -100
"""The label of tokens that are not learned."""
NOT_OF_THE_BACKBONE = ("labels", "num_items_in_batch", "logits_to_keep", "return_dict", "use_cache")
CHECKED_TOKENS = 16
TOLERANCE = 0.02
"""How far logits may be from the model's own, as a share of the largest.  Two GEMMs of bf16 differ by less."""


class OutputHead(NamedTuple):
    """What turns hidden states h into logits: ``softcap(logit_scale * (h @ weight.T + bias))``.

    Attributes:
        weight: (V, H).
        bias: (V,) or None.
        softcap: c in c * tanh(z / c), or None.
        logit_scale: Multiplies the logits, before the softcap.
    """

    weight: Tensor
    bias: Tensor | None
    softcap: float | None
    logit_scale: float


def hidden_states(model: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
    """Run the backbone alone, and return what the head is given, (B, T, H).

    Args:
        model: A causal language model of Transformers, also as PEFT, DDP or torch.compile wrap it.
        inputs: A batch.  Fields that only the head or the loss reads, such as labels, are left out.

    Raises:
        ValueError: The model has no backbone of its own, or PEFT puts tokens before the prompt.
    """
    fields = {name: value for name, value in inputs.items() if name not in NOT_OF_THE_BACKBONE}
    found: Tensor = _backbone(model)(**fields, use_cache=False, return_dict=True)[0]
    return found


def output_head(model: nn.Module) -> OutputHead:
    """Return the head of a causal language model.

    Adapters of PEFT on the head are added to its weight, without their dropout.  Gradients flow to them.

    Raises:
        ValueError: The model has no output embedding, or that is no linear layer.
    """
    base = plain_model(model)
    layer = base.get_output_embeddings() if hasattr(base, "get_output_embeddings") else None
    if layer is None:
        raise ValueError(
            f"{type(base).__name__} has no output embedding, so its logits cannot be made of hidden states; "
            "pass a model whose get_output_embeddings() is its head"
        )
    weight, bias = _weight_and_bias(layer)
    transform = transform_of(base.config)
    return OutputHead(weight, bias, transform.softcap, transform.scale)


def check_head(model: nn.Module, inputs: Mapping[str, Any]) -> None:
    """Refuse a model whose logits are not those that its hidden states and its head give.

    It runs the model on the beginning of the first row, in the mode that the model is in.

    Raises:
        ValueError: They differ, as for a head that is more than one linear layer, or they cannot be computed.
    """
    device = next(model.parameters()).device
    fields = {"input_ids": inputs["input_ids"][:1, :CHECKED_TOKENS].to(device)}
    with torch.no_grad():
        head, theirs = output_head(model), model(**fields)["logits"].float()
        ours = F.linear(hidden_states(model, fields).to(head.weight.dtype), head.weight, head.bias).float()
    ours = Transform(head.softcap, head.logit_scale)(ours)
    off = float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-6))
    if not off <= TOLERANCE:
        raise ValueError(
            f"the logits of {type(plain_model(model)).__name__} are not its output embedding times its hidden states "
            f"(they differ by {off:.2g} of the largest); use a method without scores, or a model of another kind"
        )


def counted_tokens(labels: Tensor) -> Tensor:
    """Return (B, T), whether token t predicts a label."""
    return shifted_labels(labels, IGNORED, 1) != IGNORED


def example_scores(rows: Mapping[str, Tensor], counted: Tensor) -> dict[str, Tensor]:
    """Return one number per example and metric, (B,), joined as the table of metrics says.

    Args:
        rows: The scores of tokens, (B, T) by metric.
        counted: (B, T), which tokens count.
    """
    found = {}
    for metric, values in rows.items():
        join = TABLE[metric].join
        if join == "all":
            found[metric] = torch.where(counted, values, 1.0).amin(1)
        else:
            found[metric] = reduce_tokens(values, counted, "norm" if join == "norm" else "mean")
    return found


def plain_model(model: nn.Module) -> Any:
    """Return the model of Transformers inside what PEFT, DDP and torch.compile wrap around it."""
    found: Any = model
    while True:
        inner = getattr(found, "_orig_mod", None)
        if inner is None and isinstance(found, nn.parallel.DistributedDataParallel):
            inner = found.module
        if inner is None and hasattr(found, "peft_config") and hasattr(found, "get_base_model"):
            inner = found.get_base_model()
        if inner is None or inner is found:
            return found
        found = inner


def _backbone(model: nn.Module) -> Any:
    peft = getattr(model, "active_peft_config", None)
    if getattr(peft, "is_prompt_learning", False):
        raise ValueError(
            f"PEFT's {type(peft).__name__} puts tokens of its own before each prompt, so hidden states are not those "
            "of the batch's tokens; use LoRA or another adapter of layers"
        )
    base = plain_model(model)
    backbone = getattr(base, "base_model", base)
    if backbone is base:
        raise ValueError(
            f"{type(base).__name__} has no backbone apart from its head; pass a causal language model of Transformers"
        )
    return backbone


def _weight_and_bias(layer: Any) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias of a linear layer, with what PEFT adds to it."""
    if hasattr(layer, "modules_to_save"):  # a trained copy of the layer
        layer = layer.modules_to_save[layer.active_adapters[0]]
    plain = layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer
    weight, bias = getattr(plain, "weight", None), getattr(plain, "bias", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise ValueError(f"the output embedding is {type(plain).__name__}, and not a linear layer; pass another model")
    if plain is not layer and not layer.merged and not layer.disable_adapters:
        for name in layer.active_adapters:
            if name in layer.lora_A:
                weight = weight + layer.get_delta_weight(name).to(weight.dtype)
    return weight, bias
