"""The model of a task, under fresh heads, and how its answers are scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from fastprune.finetune.encode import Names
from fastprune.pruning import Method
from fastprune.scores import Head, JointLoss, Task

PROBLEMS = {
    "regression": "regression",
    "multi-label": "multi_label_classification",
    "classification": "single_label_classification",
}
"""What Transformers calls each kind."""
LACKING: Mapping[str, tuple[str, ...]] = {
    "tokens": ("probabilities",),
    "multi-label": ("probabilities", "grand", "entropy", "confidence", "margin", "correct"),
    "regression": ("probabilities", "grand", "entropy", "confidence", "margin", "correct"),
}
"""Metrics that a task does not have."""
KIND_OF_HEAD = {"classification": "single_label", "multi-label": "multi_label", "regression": "regression"}


def build(encoder: Any, names: Names, dropout: float = 0.1) -> Any:
    """The encoder under heads that are drawn from the global random state.

    Tags alone: Transformers' own token classifier.  Other tasks: `fastprune.models`.
    """
    if names.kind == "tokens":
        return _token_classifier(encoder, names)
    from fastprune.models import JointModel, MeanConfig, MeanForSequenceClassification

    config = MeanConfig(
        encoder={name: value for name, value in encoder.config.to_diff_dict().items() if name != "_name_or_path"},
        classifier_dropout=dropout,
        tag_names=names.tag_names,
        problem_type=PROBLEMS.get(names.kind, PROBLEMS["classification"]),
        **({"num_labels": 1} if names.label_names is None else _numbered(names.label_names)),
    )
    model = JointModel if names.kind == "joint" else MeanForSequenceClassification
    return model(config, encoder)


def task_of(kind: str, *, weighted: bool = False) -> Task:
    """Where logits and labels of a task's model are.

    Args:
        weighted: whether the losses of examples are weighted: then the joint loss is that which is trained on, the sum
            of the heads' means; otherwise, as a score, the paper's.
    """
    if kind == "joint":
        heads = {"label": Head("logits", "labels", "single_label"), "tags": Head("tag_logits", "tag_labels", "tokens")}
        return Task(heads, JointLoss("sum", "mean") if weighted else None)
    return Task(Head(kind=KIND_OF_HEAD.get(kind, "tokens")))  # type: ignore[arg-type]


def score_fn_of(kind: str, method: Method) -> Callable[[Any, Any], Mapping[str, Tensor]] | None:
    """For methods that keep the probabilities of a joint model: they are those of the class of the text."""
    if kind != "joint" or "probabilities" not in method.reads:
        return None
    others = [metric for metric in method.reads if metric != "probabilities"]

    def score_fn(outputs: Any, batch: Any) -> Mapping[str, Tensor]:
        probabilities = outputs["logits"].detach().float().softmax(-1)
        return {**task_of(kind).scores(outputs, batch, others), "probabilities": probabilities}

    return score_fn


def _token_classifier(encoder: Any, names: Names) -> Any:
    from transformers import AutoConfig, AutoModelForTokenClassification

    plain = encoder.config.to_diff_dict() | _numbered(names.tag_names or [])
    model = AutoModelForTokenClassification.from_config(AutoConfig.for_model(**plain))
    getattr(model, model.base_model_prefix).load_state_dict(encoder.state_dict(), strict=False)
    return model


def _numbered(names: list[str]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
