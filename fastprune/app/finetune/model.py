"""The model of a task, under fresh heads, and how its answers are scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from fastprune.app.finetune.encode import Names
from fastprune.pruning import Method
from fastprune.scores import Head, JointLoss, Task
from fastprune.scores.metrics import HeadKind, is_vector

PROBLEMS = {
    "regression": "regression",
    "multi-label": "multi_label_classification",
    "classification": "single_label_classification",
}
"""What Transformers calls each kind."""
HEADS: Mapping[str, tuple[HeadKind, ...]] = {
    "classification": ("single_label",),
    "multi-label": ("multi_label",),
    "regression": ("regression",),
    "tokens": ("tokens",),
    "joint": ("single_label", "tokens"),
    "causal-lm": ("causal_lm",),
}
"""The heads of each task's model."""


def build_model(encoder: Any, names: Names, dropout: float = 0.1) -> Any:
    """Return the encoder under heads that are drawn from the global random state.

    For tags alone it is Transformers' own token classifier, and for other tasks a model of `fastprune.models`.
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


def head_kinds(kind: str) -> tuple[HeadKind, ...]:
    """Return the kinds of heads of a task's model, which say which metrics it has."""
    return HEADS[kind]


def task_of(kind: str, *, weighted: bool = False) -> Task:
    """Return where logits and labels of a task's model are.

    Args:
        kind: what is predicted.
        weighted: whether the losses of examples are weighted.  Then the joint loss is the one that is trained on, the
            sum of the heads' means.  Otherwise it is a score, the paper's.
    """
    if kind == "joint":
        label, tags = HEADS[kind]
        heads = {"label": Head("logits", "labels", label), "tags": Head("tag_logits", "tag_labels", tags)}
        return Task(heads, JointLoss("sum", "mean") if weighted else None)
    return Task(Head(kind=HEADS[kind][0]))


def score_fn_of(kind: str, method: Method) -> Callable[[Any, Any], Mapping[str, Tensor]] | None:
    """Return a `score_fn` for methods that keep the probabilities of a joint model, those of the text's class."""
    vectors = [metric for metric in method.reads if is_vector(metric)]
    if kind != "joint" or not vectors:
        return None
    others = [metric for metric in method.reads if metric not in vectors]
    of_text = Task(task_of(kind).heads["label"])

    def score_fn(outputs: Any, batch: Any) -> Mapping[str, Tensor]:
        return {**task_of(kind).scores(outputs, batch, others), **of_text.scores(outputs, batch, vectors)}

    return score_fn


def _token_classifier(encoder: Any, names: Names) -> Any:
    from transformers import AutoConfig, AutoModelForTokenClassification

    plain = encoder.config.to_diff_dict() | _numbered(names.tag_names or [])
    model = AutoModelForTokenClassification.from_config(AutoConfig.for_model(**plain))
    getattr(model, model.base_model_prefix).load_state_dict(encoder.state_dict(), strict=False)
    return model


def _numbered(names: list[str]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
