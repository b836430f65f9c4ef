"""Per-example scores from what a Hugging Face model returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from fastprune.scores import score

ADVICE = "pass attach(score_fn=...), a function (outputs, inputs) -> (B,) tensor (or a dict of them by metric)"


def default_scores(
    outputs: Any,
    inputs: Mapping[str, Any],
    metrics: Sequence[str],
    label_names: Sequence[str],
    model: nn.Module,
) -> dict[str, Tensor]:
    """The metrics of each example of a batch, for models with one head.

    Classification and token classification (token scores joined by their norm, as in the paper), masked and
    causal language models (labels shifted as in their loss), regression (distance to the label).

    Raises:
        ValueError: the outputs or labels have another shape than these; the message names ``score_fn``.
    """
    labels = _labels(inputs, label_names)
    logits = _logits(outputs)
    if _is_regression(logits, labels, model):
        return {metric: _regression(logits, labels, metric) for metric in metrics}
    if logits.ndim != labels.ndim + 1 or labels.ndim > 2 or labels.is_floating_point():
        raise ValueError(
            f"no default score for logits {tuple(logits.shape)} with labels {tuple(labels.shape)} of "
            f"{labels.dtype}; {ADVICE}"
        )
    if labels.ndim == 1:
        return score(logits, labels, tuple(metrics))
    return score(logits, labels, tuple(metrics), shift=int(shifts_labels(model)), reduce="norm")


def shifts_labels(model: nn.Module) -> bool:
    """Whether the model's loss compares position t with label t + 1."""
    peft_base: Any = getattr(model, "get_base_model", None)
    base = model if peft_base is None else peft_base()
    name = type(base).__name__
    if getattr(getattr(base, "config", None), "is_encoder_decoder", False):
        return False
    known = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
    return name in known or "ForCausalLM" in name or "ForConditionalGeneration" in name


def _labels(inputs: Mapping[str, Any], label_names: Sequence[str]) -> Tensor:
    found = [name for name in label_names if inputs.get(name) is not None]
    if len(found) != 1 or not isinstance(inputs[found[0]], Tensor):
        raise ValueError(f"the default score needs exactly one label field, found {found}; {ADVICE}")
    return inputs[found[0]]


def _logits(outputs: Any) -> Tensor:
    if isinstance(outputs, Mapping):
        logits = outputs.get("logits")
    elif isinstance(outputs, (tuple, list)):
        # The loss comes first, unless the Trainer kept the labels from the model to compute it itself.
        logits = next((o for o in outputs if isinstance(o, Tensor) and o.ndim > 0), None)
    else:
        logits = getattr(outputs, "logits", None)
    if not isinstance(logits, Tensor):
        raise ValueError(f"the model's outputs ({type(outputs).__name__}) hold no logits; {ADVICE}")
    return logits.detach()


def _is_regression(logits: Tensor, labels: Tensor, model: nn.Module) -> bool:
    one_output = getattr(getattr(model, "config", None), "num_labels", None) == 1
    return one_output and labels.ndim == 1 and logits.numel() == labels.numel()


def _regression(logits: Tensor, labels: Tensor, metric: str) -> Tensor:
    distance = (logits.reshape(labels.shape).float() - labels.float()).abs()
    if metric == "el2n":
        return distance
    if metric == "loss":
        return torch.square(distance)
    raise ValueError(f"metric {metric!r} is not defined for regression; {ADVICE}")
