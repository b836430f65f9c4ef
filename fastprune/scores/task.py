"""`Task`: where a model's logits and a batch's labels are, and the scores and losses of each example.

Only this file turns heads of different kinds into one number per example. Every integration uses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from fastprune.scores.api import score
from fastprune.scores.crossentropy import cross_entropy
from fastprune.scores.definition import shifted_labels
from fastprune.scores.joint_loss import JointLoss
from fastprune.scores.labels import is_counted
from fastprune.scores.metrics import (
    OF_CLASSES,
    TABLE,
    Given,
    HeadKind,
    Metric,
    completed,
    kernel_part,
    of_examples,
    of_rows,
)
from fastprune.scores.reduce import Reduction, reduce_heads
from fastprune.scores.span import stacked_positions

Features = Mapping[str, tuple[Tensor, bool]]
Key = str | int


@dataclass(frozen=True)
class Head:
    """One head: where its logits and labels are, and what kind of answer it gives.

    The kinds follow. Shapes and dtypes do not show "causal_lm" and "span", so name these:

    - ``single_label``: integer labels (B,), one dimension less than the logits.
    - ``tokens``: integer labels (B, T), one dimension less than the logits.
    - ``multi_label``: labels shaped like the logits.
    - ``regression``: float labels, one for each example, and logits with one output. Name the kind if there are
      several.
    - ``causal_lm``: as ``tokens``, but token t answers label t + 1.
    - ``span``: the start and the end of an answer. Each has logits (B, T) and labels (B,), which are positions in them.
      A position after the last token does not count.

    Args:
        logits: Key, attribute or position of the logits in the model's outputs. With the default, a single head also
            accepts outputs that are the logits themselves. In a plain tuple it takes the first tensor that is not a
            scalar. For a span, a pair.
        labels: Key, attribute or position of the labels in the batch. For a span, a pair.
        kind: One of the kinds above. None recognises the kind by shapes and dtypes.
        ignore_index: Labels that do not count.
        reduce: How the scores of tokens become one, for every metric. By default it is "norm" for el2n and grand (the
            paper's), and "mean" for the others. For ``correct``, all tokens must be right. See
            `fastprune.scores.metrics`.

    Raises:
        ValueError: kind or reduce is unknown. Or a pair is given without kind="span", or the other way round.

    Example:
        >>> Head("intent_logits", "intents").kind is None  # recognised by the shapes
        True
        >>> answer = Head(("start_logits", "end_logits"), ("start_positions", "end_positions"), kind="span")
    """

    logits: Key | tuple[Key, Key] = "logits"
    labels: Key | tuple[Key, Key] = "labels"
    kind: HeadKind | None = None
    ignore_index: int = -100
    reduce: Reduction | None = None

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in get_args(HeadKind):
            raise ValueError(f"kind must be one of {', '.join(get_args(HeadKind))}, got {self.kind!r}")
        for name, place in (("logits", self.logits), ("labels", self.labels)):
            if (self.kind == "span") != isinstance(place, tuple):
                raise ValueError(
                    f"{name} must be a pair, of start and end, with kind='span' and one key otherwise, got {place!r} "
                    f"with kind={self.kind!r}"
                )
        if self.reduce is not None and self.reduce not in get_args(Reduction):
            raise ValueError(f"reduce must be one of {', '.join(get_args(Reduction))}, got {self.reduce!r}")


@dataclass(frozen=True)
class ExampleLosses:
    """The losses by example, differentiable.

    Attributes:
        sums: (B,), summed over the example's labels. For several heads it is the example's part of the joint loss.
        counts: (B,), the number of these labels. For several heads it is 1 for every example.
    """

    sums: Tensor
    counts: Tensor


class Task:
    """The heads of a model: a single one, or several by name.

    The scores of several heads become one as in arXiv 2306.03208. For ``el2n`` and ``grand`` it is the norm over all
    heads and tokens. For ``loss`` the `JointLoss` decides. For ``correct`` all heads must be right. The other metrics
    are the mean over heads.

    Args:
        heads: One head, or several by name.
        loss: How the losses of several heads become one, in scores and in the weighted loss of training. With None it
            is the paper's `JointLoss("mean", "sum")` if there is a head with a label per example and one with a label
            per token. Otherwise it is `JointLoss("sum", "mean")`. In scores, a head's own ``reduce`` has precedence.

    Raises:
        ValueError: There is no head, or ``loss`` has factors for other heads.

    Example:
        >>> intent, slots = Head("intent_logits", "intents"), Head("slot_logits", "tags")
        >>> paper = Task({"intent": intent, "slots": slots})  # the paper's joint loss
        >>> task = Task({"intent": intent, "slots": slots}, loss=JointLoss("sum", "mean"))  # CE_intent + mean CE_slot
        >>> outputs = {"intent_logits": torch.zeros(2, 4), "slot_logits": torch.zeros(2, 3, 5)}
        >>> batch = {"intents": torch.tensor([0, 1]), "tags": torch.tensor([[0, 1, -100], [2, 3, 4]])}
        >>> task.scores(outputs, batch, ["el2n", "loss"])
        {'el2n': tensor([1.5330, 1.7748]), 'loss': tensor([2.9957, 2.9957])}
    """

    def __init__(
        self,
        heads: Head | Mapping[str, Head] = Head(),  # noqa: B008  (frozen)
        loss: JointLoss | None = None,
    ) -> None:
        self.heads = {"": heads} if isinstance(heads, Head) else dict(heads)
        self.loss = loss
        if not self.heads:
            raise ValueError("heads is empty; pass a Head, or a dict of them by name")
        if loss is not None:
            loss.check(list(self.heads))

    def __repr__(self) -> str:
        return f"Task({self.heads!r})" if self.loss is None else f"Task({self.heads!r}, loss={self.loss!r})"

    def scores(
        self, outputs: Any, batch: Any, metrics: Sequence[str], features: Features | None = None
    ) -> dict[str, Tensor]:
        """The metrics of each example of a batch.

        Args:
            outputs: What the model returned: a mapping, an object with attributes, a tuple or the logits.
            batch: A mapping, tuple or list with the labels of every head.
            metrics: Metrics of `fastprune.score`, "grand", "probabilities" (for one single-label head), or a row of
                your own in `fastprune.scores.metrics`.
            features: For "grand", by head (input of the last layer, whether it has a bias).

        Returns:
            fp32 (B,) by metric, and (B, C) for "probabilities". They never require grad.

        Raises:
            ValueError: Outputs or labels do not fit the head. The message says which, and how to tell it.
        """
        with torch.no_grad():
            found = {name: self._find(name, outputs, batch) for name in self.heads}
            return {metric: self._metric(found, metric, features or {}) for metric in metrics}

    def losses(self, outputs: Any, batch: Any, *, label_smoothing: float = 0.0) -> ExampleLosses:
        """The losses of each example, summed over its labels. Gradients flow to the logits.

        The loss is the cross-entropy, for multi_label the binary one of every class, and for regression the squared
        error of every output. For several heads it is each example's part of the joint loss. The mean of the parts over
        the batch is that loss.
        """
        found = {name: self._find(name, outputs, batch) for name in self.heads}
        parts = {name: _losses(*part, label_smoothing) for name, part in found.items()}
        if len(parts) == 1:
            return next(iter(parts.values()))
        rule = self._joint_loss([part.kind for part in found.values()])
        joint = rule.parts({name: (part.sums, part.counts) for name, part in parts.items()})
        return ExampleLosses(joint, torch.ones_like(joint, dtype=torch.int64))

    def _joint_loss(self, kinds: Sequence[HeadKind]) -> JointLoss:
        if self.loss is not None:
            return self.loss
        return JointLoss("mean", "sum") if {"single_label", "tokens"} <= set(kinds) else JointLoss("sum", "mean")

    def logits(self, outputs: Any) -> dict[str, Tensor]:
        """The logits of every head."""
        return {name: self._logits(head, outputs) for name, head in self.heads.items()}

    def _logits(self, head: Head, outputs: Any) -> Tensor:
        if isinstance(head.logits, tuple):
            ends = [_checked(_lookup(outputs, key), outputs, key, "the model's outputs") for key in head.logits]
            return torch.stack(ends, dim=1)
        found = _lookup(outputs, head.logits)
        if found is None and len(self.heads) == 1 and head.logits == Head.logits:
            if isinstance(outputs, Tensor):
                found = outputs
            elif isinstance(outputs, (tuple, list)) and not hasattr(outputs, "_fields"):
                # The loss is the first tensor, unless it is computed outside the model.
                found = next((o for o in outputs if isinstance(o, Tensor) and o.ndim > 0), None)
        return _checked(found, outputs, head.logits, "the model's outputs")

    def _find(self, name: str, outputs: Any, batch: Any) -> _Found:
        head = self.heads[name]
        logits = self._logits(head, outputs)
        if isinstance(head.labels, tuple):
            positions = [_checked(_lookup(batch, key), batch, key, "the batch") for key in head.labels]
            return _Found(head, "tokens", logits, stacked_positions(logits, positions, head.ignore_index))
        labels = _checked(_lookup(batch, head.labels), batch, head.labels, "the batch")
        kind = head.kind or _kind(name, logits, labels, head.ignore_index)
        if kind == "multi_label":  # a single label may come without its dimension
            logits, labels = (t.unsqueeze(-1) if t.ndim == 1 else t for t in (logits, labels))
        return _Found(head, kind, logits, labels)

    def _metric(self, found: Mapping[str, _Found], metric: str, features: Features) -> Tensor:
        if metric not in TABLE or TABLE[metric].per == "run":
            raise ValueError(f"unknown metric {metric!r}; choose from {', '.join(of_examples())}, or pass score_fn")
        row = TABLE[metric]
        if row.vector:
            return _vector(row, list(found.values()))
        rows = {name: _head_values(row, part, features.get(name)) for name, part in found.items()}
        heads = [part.head for part in found.values()]
        if row.join == "all":
            right = [torch.where(valid, s, 1.0).flatten(1).amin(1) for s, valid in rows.values()]
            return torch.stack(right).amin(0)
        if row.join == "loss" and not any(head.reduce for head in heads) and (self.loss or len(rows) > 1):
            return self._joint_loss([part.kind for part in found.values()]).score(rows)
        usual: Reduction = "norm" if row.join == "norm" else "mean"
        chosen = {usual if row.per == "example" else head.reduce or usual for head in heads}
        if len(chosen) > 1:
            raise ValueError(f"heads must agree in reduce, got {sorted(chosen)}")
        return reduce_heads(list(rows.values()), chosen.pop())


class _Found(NamedTuple):
    """A head with its part of a batch."""

    head: Head
    kind: HeadKind
    logits: Tensor
    labels: Tensor

    @property
    def shift(self) -> int:
        """Row t answers label t + shift."""
        return int(self.kind == "causal_lm")

    def given(self, states: tuple[Tensor, bool] | None = None) -> Given:
        """What a metric is computed from."""
        return Given(self.logits.detach(), self.labels, self.head.ignore_index, self.shift, states)


def _vector(row: Metric, found: Sequence[_Found]) -> Tensor:
    """A number for each class, (B, C)."""
    kinds = [part.kind for part in found]
    if len(kinds) > 1 or kinds[0] not in row.heads:
        raise ValueError(f"{row.name} are kept for one single-label head only, got {', '.join(kinds)}")
    return completed([row.name], found[0].given())[row.name]


def _head_values(row: Metric, part: _Found, states: tuple[Tensor, bool] | None) -> tuple[Tensor, Tensor]:
    """A head's numbers and which of them count, both (B, T). T is 1 unless they belong to tokens."""
    needy = "states" in row.needs
    if needy and (states is None or part.kind not in row.heads):
        raise ValueError(
            f"{row.name} needs the input of a linear last layer and class labels; this model's last layer was not "
            f"found or its head is {part.kind}: pass score_fn with fastprune.grand or fastprune.per_sample_grand"
        )
    if part.kind == "regression":
        values = _of_numbers(row, part)
    elif needy:
        fused = {name: _head_row_scores(name, part) for name in kernel_part([row.name])}
        values = completed([row.name], part.given(states)._replace(scores=fused))[row.name]
    else:
        values = _head_row_scores(row.name, part)
    valid = torch.ones_like(values, dtype=torch.bool)
    if row.per == "row" and part.kind in OF_CLASSES and not part.labels.is_floating_point():
        valid = shifted_labels(part.labels, part.head.ignore_index, part.shift) != part.head.ignore_index
    return (values.unsqueeze(-1), valid.unsqueeze(-1)) if values.ndim == 1 else (values, valid)


def _head_row_scores(metric: str, part: _Found) -> Tensor:
    """`score` of one head that classifies, with the arguments that its kind asks for."""
    ignored, logits = part.head.ignore_index, part.logits.detach()
    if part.kind == "multi_label":
        return score(logits, part.labels, metric, multi_label=True, ignore_index=ignored)
    return score(logits, part.labels, metric, ignore_index=ignored, shift=part.shift)


def _of_numbers(row: Metric, part: _Found) -> Tensor:
    """The distance between predicted and true numbers: absolute for el2n, squared for the loss."""
    if "regression" not in row.heads:
        there = " or ".join(of_rows("regression"))
        raise ValueError(f"metric {row.name!r} is not defined for regression; use one that reads {there}")
    distance = (part.logits.detach().reshape(part.labels.shape).float() - part.labels.float()).abs()
    of_kernel = {"el2n": distance, "loss": distance.square()}
    return completed([row.name], part.given()._replace(scores=of_kernel))[row.name]


def _losses(head: Head, kind: HeadKind, logits: Tensor, labels: Tensor, label_smoothing: float) -> ExampleLosses:
    if kind == "regression":
        each = F.mse_loss(logits.reshape(labels.shape).float(), labels.float(), reduction="none")
        return _summed(each, torch.ones_like(each, dtype=torch.bool))
    if kind == "multi_label":
        each = F.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="none")
        return _summed(each, is_counted(labels, head.ignore_index))
    shift, ignored = int(kind == "causal_lm"), head.ignore_index
    each = cross_entropy(
        logits, labels, reduction="none", ignore_index=ignored, label_smoothing=label_smoothing, shift=shift
    )
    if labels.shape == each.shape:
        return _summed(each, shifted_labels(labels, ignored, shift) != ignored)
    return _summed(each, torch.ones_like(each, dtype=torch.bool))  # a probability for each class


def label_fields(task: Task) -> set[Key]:
    """Where the labels of all heads are in a batch."""
    places = [head.labels for head in task.heads.values()]
    return {key for place in places for key in (place if isinstance(place, tuple) else (place,))}


def _summed(each: Tensor, counted: Tensor) -> ExampleLosses:
    sums = torch.where(counted, each, 0.0).reshape(len(each), -1).sum(-1)
    return ExampleLosses(sums, counted.reshape(len(each), -1).sum(-1))


def _kind(name: str, logits: Tensor, labels: Tensor, ignore_index: int) -> HeadKind:
    if not labels.is_floating_point() and labels.shape == logits.shape[:-1] and labels.ndim in (1, 2):
        return "single_label" if labels.ndim == 1 else "tokens"
    if labels.is_floating_point() and labels.ndim and labels.numel() == logits.numel() == len(labels):
        return "regression"
    if labels.shape == logits.shape and logits.ndim == 2:
        _check_multi_label(name, labels, ignore_index)
        return "multi_label"
    raise ValueError(
        f"head {name!r}: no score is known for logits {tuple(logits.shape)} with labels {tuple(labels.shape)} of "
        f"{labels.dtype}; pass its kind with fastprune.Head(kind=...), or pass score_fn"
    )


def _check_multi_label(name: str, labels: Tensor, ignore_index: int) -> None:
    """Refuse labels that are numbers to predict and not several labels. Skipped if it would wait for a device."""
    if labels.device.type != "cpu":
        return
    outside = ((labels < 0) | (labels > 1)) & is_counted(labels, ignore_index)
    if bool(outside.any()):
        raise ValueError(
            f"head {name!r}: labels shaped like the logits are taken for several labels, each in [0, 1], but one is "
            f"{float(labels[outside][0]):g}; pass fastprune.Head(kind='regression') if they are numbers to predict"
        )


def _lookup(container: Any, key: Key) -> Any:
    """``container[key]`` or the attribute of that name, and None if there is neither."""
    if isinstance(container, Mapping):
        return container.get(key)
    if isinstance(key, str):
        return getattr(container, key, None)
    inside = isinstance(container, (tuple, list)) and -len(container) <= key < len(container)
    return container[key] if inside else None


def _checked(found: Any, container: Any, key: Key, where: str) -> Tensor:
    if not isinstance(found, Tensor):
        raise ValueError(
            f"{where} ({type(container).__name__}) hold no {key!r}; name the place with fastprune.Head(logits=..., "
            "labels=...), or pass score_fn"
        )
    return found
