"""The public scores: `score`, `el2n` and `joint_el2n`.

EL2N is the L2 norm of (softmax(logits) - onehot(label)): Paul et al. 2021 (arXiv 2107.07075), for
finetuning with several heads arXiv 2306.03208; definition.py defines the others. Scores are fp32,
never require grad, and are computed in one read of the logits (kernels.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

import torch
from torch import Tensor

from fastprune.scores import definition, kernels, ops, sharded
from fastprune.scores.again import remember, scores_again
from fastprune.scores.checks import (
    as_int,
    check_data,
    check_labels,
    check_metrics,
    check_multi_label,
    check_reduce,
    check_reduction,
    check_rows,
    check_soft,
)
from fastprune.scores.definition import shifted_labels
from fastprune.scores.labels import class_indices, is_counted
from fastprune.scores.metrics import Given, completed, kernel_part
from fastprune.scores.reduce import reduce_heads, reduce_tokens

LogitsAndLabels = tuple[Tensor, Tensor] | tuple[Tensor, Tensor, int]


@overload
def score(
    logits: Tensor,
    labels: Tensor,
    metrics: str,
    *,
    multi_label: bool = False,
    ignore_index: int = -100,
    shift: int = 0,
    reduce: str | None = None,
    validate_labels: bool = False,
) -> Tensor: ...


@overload
def score(
    logits: Tensor,
    labels: Tensor,
    metrics: tuple[str, ...] | list[str] = ("el2n", "loss"),
    *,
    multi_label: bool = False,
    ignore_index: int = -100,
    shift: int = 0,
    reduce: str | None = None,
    validate_labels: bool = False,
) -> dict[str, Tensor]: ...


def score(
    logits: Tensor,
    labels: Tensor,
    metrics: str | tuple[str, ...] | list[str] = ("el2n", "loss"),
    *,
    multi_label: bool = False,
    ignore_index: int = -100,
    shift: int = 0,
    reduce: str | None = None,
    validate_labels: bool = False,
) -> Tensor | dict[str, Tensor]:
    """Several scores of each row from one read of its logits.

    Args:
        logits: (..., C), classes last; float16, bfloat16, float32 or float64; any strides. A DTensor may be replicated
            or sharded over its rows, with labels placed alike; the scores are DTensors then.
        labels: on the same device, one of
            (...) class indices of any integer dtype;
            (..., C) floating point: a probability for each class (soft labels), with ignore_index < 0;
            (..., C) of any dtype with multi_label=True: 0 or 1, or a probability, for each label.
        metrics: one of these, or several; "el2n" and "loss" alone for a target per class.
            "el2n" || p - onehot(y) ||, "loss" -log p_y, "confidence" p_y, "margin" z_y - the largest other
            logit, "entropy" of p in nats, "correct" 1 or 0. Which end of each is hard says
            `fastprune.scores.metrics`, where a metric of your own is one row.
        multi_label: the logits are independent yes-or-no answers (a binary head has C = 1): p is their
            sigmoid, the loss is summed over the labels.
        ignore_index: rows with this label score 0; with multi_label, labels equal to it add nothing.
        shift: row t is scored against label t + shift along the last dimension of labels (1 for causal
            language models), without a copy; the last `shift` rows score 0.
        reduce: None for a score a row; or over the last dimension of rows, which then need two:
            "norm" sqrt(sum s^2), the paper's default, "mean" over valid tokens, "sum", "max". A sample
            with no valid token scores 0.
        validate_labels: look for labels out of range on a GPU too, which waits for the device.

    Returns:
        fp32 of logits.shape[:-1], or of one dimension less if reduced: a Tensor for a single string,
        otherwise a dict by metric. A NaN or +inf logit, or a row of only -inf, scores NaN; other -inf
        logits (masked classes) are left out.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or value.
        IndexError: a label outside [0, C), on the CPU always; on a GPU, where it takes a synchronisation,
            if validate_labels, and else that row scores NaN.

    Accuracy: relative error <= 4e-6 in every metric, at any size of score down to 1e-12 and any number
    of classes. Against a target per class, computed in
    double: the same down to 1e-9, and to 1e-12 where the target is one-hot. A smaller floor: el2n, confidence and
    loss below 2e-38 C may be 0, and a margin that float32 cannot hold is rounded to 0 or infinity or up to 1.2e-38.
    Cost: rows * C * itemsize bytes read once, whatever the metrics; no copy of the logits unless the
    classes are strided or the row dimensions before the last do not collapse to one. Targets per class
    are not fused: several passes over pieces of bounded size.
    """
    one = type(metrics) is str and reduce is None and not multi_label
    if one and (rows := scores_again(logits, labels, metrics, ignore_index, shift)) is not None:  # type: ignore[arg-type]
        return rows
    ignore_index, shift = as_int("ignore_index", ignore_index), as_int("shift", shift)
    if sharded.is_sharded(logits):
        z, y = sharded.local_rows(logits, labels, across_tokens=bool(shift or reduce))
        options: dict[str, Any] = {"ignore_index": ignore_index, "shift": shift, "reduce": reduce}
        local: Any = score(z, y, metrics, multi_label=multi_label, validate_labels=validate_labels, **options)
        if isinstance(local, Tensor):
            return sharded.as_rows_of(local, logits)
        return {name: sharded.as_rows_of(rows, logits) for name, rows in local.items()}
    if multi_label or is_soft(logits, labels):
        names = check_metrics(metrics, per_class=True)
        (check_multi_label if multi_label else check_soft)(logits, labels, ignore_index, shift)
        check_reduce(reduce, logits.shape[:-1])
        scores = _target_scores(logits, labels, names, multi_label, ignore_index)
        valid = _valid_targets(labels, multi_label, ignore_index) if reduce else None
    else:
        names = check_metrics(metrics)
        check_rows(logits, labels, ignore_index, shift)
        check_reduce(reduce, labels.shape)
        if validate_labels and not logits.is_cpu:  # there the kernel looks at each label anyway
            check_labels(labels, logits.shape[-1], ignore_index, shift)
        scores = _row_scores(logits, labels, names, ignore_index, shift)
        valid = _valid(labels, ignore_index, shift) if reduce else None
        if one:
            remember(logits, labels, names[0], ignore_index, shift)
    if reduce and valid is not None:
        scores = {name: reduce_tokens(s, valid, reduce) for name, s in scores.items()}
    return scores[metrics] if isinstance(metrics, str) else scores


def el2n(
    logits: Tensor,
    labels: Tensor,
    *,
    multi_label: bool = False,
    ignore_index: int = -100,
    shift: int = 0,
    reduce: str | None = None,
    validate_labels: bool = False,
) -> Tensor:
    """EL2N of each row: || softmax(logits) - onehot(label) ||, in [0, sqrt 2].

    The arguments, result, errors, accuracy and cost are those of `score(logits, labels, "el2n", ...)`.
    """
    return score(
        logits,
        labels,
        "el2n",
        multi_label=multi_label,
        ignore_index=ignore_index,
        shift=shift,
        reduce=reduce,
        validate_labels=validate_labels,
    )


def joint_el2n(heads: Sequence[LogitsAndLabels] | Mapping[str, LogitsAndLabels], *, reduce: str = "norm") -> Tensor:
    """One EL2N for each example of a model with several heads (arXiv 2306.03208).

    Args:
        heads: (logits, labels) or (logits, labels, ignore_index) of each head, in a sequence or by
            name. Labels are (B,) or (B, T) with T the head's own, B common to all; logits have the
            classes, the head's own number, after that.
        reduce: "norm" sqrt of the sum of s^2 over all heads and tokens, the paper's
            sqrt(s_intent^2 + sum_t s_slot_t^2); "mean" over heads of the head's mean over its valid
            tokens, the paper's (s_intent + mean_t s_slot_t) / 2; "sum" or "max" over all.

    Returns:
        (B,) fp32. A head with no valid label in an example adds 0.

    Raises, accuracy and cost: as `score`, for each head.
    """
    check_reduction(reduce)
    named = dict(heads) if isinstance(heads, Mapping) else {str(i): head for i, head in enumerate(heads)}
    if not named:
        raise ValueError("heads is empty; pass at least one (logits, labels)")
    parts: dict[str, tuple[Tensor, Tensor]] = {}
    for name, head in named.items():
        if not isinstance(head, (tuple, list)) or len(head) not in (2, 3):
            raise TypeError(f"heads[{name}] must be (logits, labels) or (logits, labels, ignore_index)")
        logits, labels = head[0], head[1]
        ignore_index = as_int(f"heads[{name}]: ignore_index", head[2] if len(head) == 3 else -100)
        if sharded.is_sharded(logits):
            raise TypeError(f"heads[{name}] is a DTensor, which joint_el2n does not take; pass what .to_local() gives")
        check_rows(logits, labels, ignore_index, 0)
        if labels.ndim not in (1, 2):
            raise ValueError(f"heads[{name}]: labels must be (B,) or (B, T), got {tuple(labels.shape)}")
        s = _row_scores(logits, labels, ("el2n",), ignore_index, 0)["el2n"]
        valid = _valid(labels, ignore_index, 0)
        parts[name] = (s, valid) if labels.ndim == 2 else (s.unsqueeze(-1), valid.unsqueeze(-1))
    batches = {name: s.shape[0] for name, (s, _) in parts.items()}
    if len(set(batches.values())) > 1:
        raise ValueError(f"heads must have the same batch size, got {batches}")
    return reduce_heads(list(parts.values()), reduce)


def is_soft(logits: Tensor, labels: Tensor) -> bool:
    """Whether the labels are a probability for each class."""
    both = isinstance(logits, Tensor) and isinstance(labels, Tensor)
    return both and labels.is_floating_point() and labels.shape == logits.shape


def computed_rows(
    metrics: tuple[str, ...], fused: dict[str, Tensor], logits: Tensor, labels: Tensor, ignore_index: int, shift: int
) -> dict[str, Tensor]:
    """The row scores ``metrics`` of class indices, of which ``fused`` holds those that the kernels compute."""
    moved = shifted_labels(labels, ignore_index, shift)
    counted = moved != ignore_index
    wrong = counted & ((moved < 0) | (moved >= logits.shape[-1]))
    with torch.no_grad():
        found = completed(metrics, Given(logits.detach(), labels, ignore_index, shift, scores=fused))
        return {
            name: rows if name in fused else torch.where(counted, rows.float(), 0.0).masked_fill(wrong, torch.nan)
            for name, rows in found.items()
        }


def _row_scores(
    logits: Tensor, labels: Tensor, metrics: tuple[str, ...], ignore_index: int, shift: int
) -> dict[str, Tensor]:
    fused = kernel_part(metrics)
    if fused == metrics:
        return _fused_rows(logits, labels, metrics, ignore_index, shift)
    if not fused and logits.is_cpu and ops.direct(logits, labels):  # else the kernel looks at each label
        check_labels(labels, logits.shape[-1], ignore_index, shift)
    rows = _fused_rows(logits, labels, fused, ignore_index, shift) if fused else {}
    return computed_rows(metrics, rows, logits, labels, ignore_index, shift)


def _fused_rows(
    logits: Tensor, labels: Tensor, metrics: tuple[str, ...], ignore_index: int, shift: int
) -> dict[str, Tensor]:
    if ops.direct(logits, labels):
        check_data(logits=logits, labels=labels)
        return kernels.row_scores(logits, class_indices(labels), metrics, ignore_index, shift)
    if torch.jit.is_tracing():  # which knows no list of strings; plain PyTorch it can follow
        return definition.row_scores(logits, labels, metrics, ignore_index, shift)
    labels = class_indices(labels)
    rows = torch.ops.fastprune.row_scores(logits.detach(), labels, metrics, ignore_index, shift)
    return dict(zip(metrics, rows, strict=True))


# So many logits are looked at together where the definition itself computes: about 50 MB of temporaries.
_PIECE = 2**20


def _target_scores(
    logits: Tensor, targets: Tensor, metrics: tuple[str, ...], multi_label: bool, ignore_index: int
) -> dict[str, Tensor]:
    classes = logits.shape[-1]
    if ops.direct(logits, targets):
        check_data(logits=logits, labels=targets)
    z, q = logits.detach().reshape(-1, classes), targets.detach().reshape(-1, classes)
    fused = kernel_part(metrics)
    step = max(_PIECE // classes, 1)
    pieces = []
    for start in range(0, max(len(z), 1), step):
        piece = z[start : start + step], q[start : start + step]
        if multi_label:
            pieces.append(definition.multi_label_scores(*piece, fused, ignore_index))
        else:
            pieces.append(definition.soft_scores(*piece, fused))
    rows = {name: torch.cat([piece[name] for piece in pieces]).reshape(logits.shape[:-1]) for name in fused}
    if fused == metrics:
        return rows
    with torch.no_grad():
        return completed(metrics, Given(logits.detach(), targets.detach(), ignore_index, scores=rows))


def _valid(labels: Tensor, ignore_index: int, shift: int) -> Tensor:
    return shifted_labels(labels, ignore_index, shift) != ignore_index


def _valid_targets(targets: Tensor, multi_label: bool, ignore_index: int) -> Tensor:
    if multi_label:
        return is_counted(targets, ignore_index).any(-1)
    return torch.ones(targets.shape[:-1], dtype=torch.bool, device=targets.device)
