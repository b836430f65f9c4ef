"""The public scores: `score`, `el2n` and `joint_el2n`.

EL2N is the L2 norm of (softmax(logits) - onehot(label)): Paul et al. 2021 (arXiv 2107.07075), for
finetuning with several heads arXiv 2306.03208. Scores are fp32, grow with what is left to learn,
never require grad, and are computed in one read of the logits: by the C++ kernel on the CPU, by the
Triton kernel on CUDA (and ROCm) devices, by the definition elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from typing import overload

import torch
from torch import Tensor

from fastprune.scores import cpu, definition
from fastprune.scores.checks import check_metrics, check_reduce, check_reduction, check_rows
from fastprune.scores.reduce import reduce_heads, reduce_tokens

Head = tuple[Tensor, Tensor] | tuple[Tensor, Tensor, int]


@overload
def score(
    logits: Tensor,
    labels: Tensor,
    metrics: str,
    *,
    ignore_index: int = -100,
    shift: int = 0,
    reduce: str | None = None,
) -> Tensor: ...


@overload
def score(
    logits: Tensor,
    labels: Tensor,
    metrics: tuple[str, ...] | list[str] = ("el2n", "loss"),
    *,
    ignore_index: int = -100,
    shift: int = 0,
    reduce: str | None = None,
) -> dict[str, Tensor]: ...


def score(
    logits: Tensor,
    labels: Tensor,
    metrics: str | tuple[str, ...] | list[str] = ("el2n", "loss"),
    *,
    ignore_index: int = -100,
    shift: int = 0,
    reduce: str | None = None,
) -> Tensor | dict[str, Tensor]:
    """Several scores of each row from one read of its logits.

    Args:
        logits: (..., C), classes last; float16, bfloat16, float32 or float64; any strides.
        labels: (...) of any integer dtype on the same device.
        metrics: one of "el2n", "loss", or several. loss is -log softmax(logits)[label].
        ignore_index: rows with this label score 0.
        shift: row t is scored against label t + shift along the last dimension of labels (1 for causal
            language models), without a copy; the last `shift` rows score 0.
        reduce: None for a score a row; or over the last dimension of labels, which then need two:
            "norm" sqrt(sum s^2), the paper's default, "mean" over valid tokens, "sum", "max". A sample
            with no valid token scores 0.

    Returns:
        fp32 of labels.shape, or labels.shape[:-1] if reduced: a Tensor for a single string, otherwise
        a dict by metric. A NaN or +inf logit, or a row of only -inf, scores NaN; other -inf logits
        (masked classes) are left out.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or value.
        IndexError: on the CPU, a label outside [0, C); on a GPU, where raising would synchronise, that
            row scores NaN.

    Accuracy: relative error <= 4e-6 at any size of score down to 1e-12, any number of classes.
    Cost: rows * C * itemsize bytes read once; no copy of the logits unless the classes are strided.
    """
    names = check_metrics(metrics)
    check_rows(logits, labels, ignore_index, shift)
    check_reduce(reduce, labels)
    scores = row_scores(logits, labels, names, ignore_index, shift)
    if reduce is not None:
        valid = _valid(labels, ignore_index, shift)
        scores = {name: reduce_tokens(s, valid, reduce) for name, s in scores.items()}
    return scores[metrics] if isinstance(metrics, str) else scores


def el2n(
    logits: Tensor,
    labels: Tensor,
    *,
    ignore_index: int = -100,
    shift: int = 0,
    reduce: str | None = None,
) -> Tensor:
    """EL2N of each row: || softmax(logits) - onehot(label) ||, in [0, sqrt 2].

    The arguments, result, errors and cost are those of `score(logits, labels, "el2n", ...)`.

    Returns:
        fp32 of labels.shape, or labels.shape[:-1] with reduce "norm", "mean", "sum" or "max".
    """
    return score(logits, labels, "el2n", ignore_index=ignore_index, shift=shift, reduce=reduce)


def joint_el2n(heads: Sequence[Head] | Mapping[str, Head], *, reduce: str = "norm") -> Tensor:
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
        ignore_index = head[2] if len(head) == 3 else -100
        check_rows(logits, labels, ignore_index, 0)
        if labels.ndim not in (1, 2):
            raise ValueError(f"heads[{name}]: labels must be (B,) or (B, T), got {tuple(labels.shape)}")
        s = row_scores(logits, labels, ("el2n",), ignore_index, 0)["el2n"]
        valid = _valid(labels, ignore_index, 0)
        parts[name] = (s, valid) if labels.ndim == 2 else (s.unsqueeze(-1), valid.unsqueeze(-1))
    batches = {name: s.shape[0] for name, (s, _) in parts.items()}
    if len(set(batches.values())) > 1:
        raise ValueError(f"heads must have the same batch size, got {batches}")
    return reduce_heads(list(parts.values()), reduce)


@torch.no_grad()
def row_scores(
    logits: Tensor, labels: Tensor, metrics: tuple[str, ...], ignore_index: int, shift: int
) -> dict[str, Tensor]:
    """Scores by the kernel of the logits' device. The arguments have been checked."""
    logits, labels = logits.detach(), labels.to(torch.int64)
    if logits.device.type == "cpu":
        return cpu.row_scores(logits, labels, metrics, ignore_index, shift)
    if logits.device.type == "cuda" and _has_triton():
        from fastprune.scores import triton_kernel

        return triton_kernel.row_scores(logits, labels, metrics, ignore_index, shift)
    return definition.row_scores(logits, labels, metrics, ignore_index, shift)


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def _valid(labels: Tensor, ignore_index: int, shift: int) -> Tensor:
    return definition.shifted_labels(labels.to(torch.int64), ignore_index, shift) != ignore_index
