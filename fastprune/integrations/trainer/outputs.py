"""Finds the task of a Hugging Face model with one head from its configuration and its batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from fastprune.integrations.spans import SPAN_LABELS, question_answering
from fastprune.scores.metrics import HeadKind
from fastprune.scores.task import Head, Task

SCORE_ADVICE = "pass attach(task=fastprune.Task(...)) for several heads, or attach(score_fn=...)"


def task_of_model(
    inputs: Mapping[str, Any], label_names: Sequence[str], model: nn.Module, advice: str = SCORE_ADVICE
) -> Task:
    """The task of the one head whose labels are in the batch.

    It knows classification with one label or several, token classification, masked and causal language models (labels
    shifted as in their loss), regression, and question answering.

    Raises:
        ValueError: the batch holds neither exactly one field of labels nor the start and end of an answer.
    """
    found = [name for name in label_names if inputs.get(name) is not None]
    spans = question_answering(inputs) if set(found) == set(SPAN_LABELS) else None
    if spans is not None:
        return spans
    if len(found) != 1 or not isinstance(inputs[found[0]], Tensor):
        raise ValueError(
            f"the default score needs exactly one field of labels, and the batch ({', '.join(inputs)}) has {found} of "
            f"label_names={list(label_names)}; pairs of a trainer that is not TRL's have no default: {advice}"
        )
    return Task(Head(labels=found[0], kind=_kind(model, inputs[found[0]])))


def _kind(model: nn.Module, labels: Tensor) -> HeadKind | None:
    config = getattr(model, "config", None)
    if getattr(config, "problem_type", None) == "multi_label_classification":
        return "multi_label"
    single = getattr(config, "num_labels", None) == 1 and labels.ndim == 1
    if single or getattr(config, "problem_type", None) == "regression":
        return "regression"
    return "causal_lm" if labels.ndim == 2 and shifts_labels(model) else None


def shifts_labels(model: nn.Module) -> bool:
    """Whether the model's loss compares position t with label t + 1."""
    peft_base: Any = getattr(model, "get_base_model", None)
    base = model if peft_base is None else peft_base()
    name = type(base).__name__
    if getattr(getattr(base, "config", None), "is_encoder_decoder", False):
        return False
    known = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()
    return name in known or "ForCausalLM" in name or "ForConditionalGeneration" in name
