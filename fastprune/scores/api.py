"""The public scores: `score`, `el2n` and `joint_el2n`.

EL2N is the L2 norm of softmax(logits) - onehot(label), from Paul et al. 2021 (arXiv 2107.07075). The form for several
heads is from arXiv 2306.03208. The other scores are defined in definition.py. All scores are fp32, never require grad,
and are computed in one read of the logits (kernels.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, overload

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
from fastprune.scores.class_parallel import scores_of_parts
from fastprune.scores.class_parts import agreed, check_offered
from fastprune.scores.definition import shifted_labels
from fastprune.scores.labels import class_indices, is_counted
from fastprune.scores.metrics import Given, completed, kernel_part
from fastprune.scores.reduce import reduce_heads, reduce_tokens

if TYPE_CHECKING:
    import torch.distributed as dist

Metrics = str | tuple[str, ...] | list[str]
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
    group: dist.ProcessGroup | None = None,
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
    group: dist.ProcessGroup | None = None,
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
    group: dist.ProcessGroup | None = None,
) -> Tensor | dict[str, Tensor]:
    """Several scores of each row, from one read of its logits.

    The metrics, with p = softmax(z) and label y:

    - "el2n" is the L2 norm of p - onehot(y).
    - "loss" is -log p_y.
    - "confidence" is p_y.
    - "margin" is z_y minus the largest other logit.
    - "entropy" is that of p, in nats.
    - "correct" is 1 or 0.

    The table in `fastprune.scores.metrics` says whether large or small values are hard. A metric of your own is one row
    in it.

    Args:
        logits: (..., C), classes last, in float16, bfloat16, float32 or float64, with any strides. A DTensor may be
            replicated or sharded over its rows, with its labels placed alike. The scores are then DTensors. One
            dimension of its mesh may shard the classes. There the labels are replicated, and so are the scores.
        labels: (...) class indices of any integer dtype. Or (..., C) floating point, a probability for each class (soft
            labels), which needs ignore_index < 0. Or, with multi_label=True, (..., C) of any dtype: 0, 1 or a
            probability for each label. They are on the logits' device.
        metrics: One name or several. With a target per class only "el2n" and "loss" are defined.
        multi_label: The logits are independent yes-or-no answers. A binary head has C = 1. Here p is the sigmoid, and
            the loss is summed over the labels.
        ignore_index: Rows with this label score 0. With multi_label, labels equal to it add nothing.
        shift: Row t is scored against label t + shift along the last dimension of labels. It is 1 for causal language
            models. The logits are not copied for it. The last `shift` rows score 0.
        reduce: None gives a score for each row. Otherwise scores are reduced over the last dimension of rows, which
            then need two dimensions. Use "norm" for sqrt(sum s^2), the paper's default, "mean" for the mean over the
            valid tokens, "sum" or "max". A sample with no valid token scores 0.
        validate_labels: Look for labels out of range on a GPU too. That waits for the device.
        group: A process group whose ranks each hold a contiguous part of the classes of all rows, in the order of the
            ranks. The parts may differ in size. Each rank passes the logits of its part, and labels among all classes,
            the same on all ranks. The call is collective, with the same options on all ranks. Every rank gets the same
            scores, bit for bit. Only metrics of the kernels and class indices are offered.

    Returns:
        fp32 of shape logits.shape[:-1], with one dimension less if reduced. A single string gives a Tensor, several
        metrics a dict by metric. A row with a NaN or +inf logit, or with only -inf logits, scores NaN. Other -inf
        logits (masked classes) are left out.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument has the wrong shape, device or value.
        IndexError: A label is outside [0, C). The CPU always checks this. A GPU checks it only with validate_labels,
            because it takes a synchronisation. Otherwise that row scores NaN.

    Accuracy: the relative error of every metric is at most 4e-6, for any number of classes and for scores down to
    1e-12. Against a target per class, which is computed in double, it holds down to 1e-9, and down to 1e-12 where the
    target is one-hot. Below 2e-38 C, el2n, confidence and loss may be 0. A margin that float32 cannot hold is rounded
    to 0, to infinity or up to 1.2e-38. Scores of classes on several ranks are as accurate, but not the bits that one
    process computes, because partial sums are rounded where the parts end.

    Cost: rows * C * itemsize bytes are read once, whatever the metrics. The logits are copied only if the classes are
    strided, or if the row dimensions before the last do not collapse to one. Targets per class are not fused. They take
    several passes over pieces of bounded size. Where the classes are on several ranks, 56 bytes a row and rank are
    gathered. With group the ranks also compare their arguments, 48 bytes each, which waits for the device if only NCCL
    is there. torch.compile leaves such a call out of its graphs, and refuses it with fullgraph=True.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[4.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        >>> labels = torch.tensor([0, 2])
        >>> scores = score(logits, labels, ("el2n", "loss"))
        >>> scores["el2n"]  # the first example is learned, the second is wrong
        tensor([0.0433, 0.9989])
        >>> score(logits, labels, "correct")
        tensor([1., 0.])

        Tokens of a causal language model, one score for each text:

        >>> logits, tokens = torch.zeros(2, 5, 8), torch.arange(10).reshape(2, 5) % 8
        >>> score(logits, tokens, "loss", shift=1, reduce="mean")
        tensor([2.0794, 2.0794])
    """
    one = type(metrics) is str and reduce is None and not multi_label and group is None
    if one and (rows := scores_again(logits, labels, metrics, ignore_index, shift)) is not None:  # type: ignore[arg-type]
        return rows
    ignore_index, shift = as_int("ignore_index", ignore_index), as_int("shift", shift)
    if group is not None or sharded.is_sharded(logits):
        options = _Options(multi_label, ignore_index, shift, reduce, validate_labels)
        if group is not None:
            return _of_group(logits, labels, metrics, options, group)
        return _sharded(logits, labels, metrics, options)
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
        if validate_labels and not logits.is_cpu:  # on the CPU the kernel checks each label anyway
            check_labels(labels, logits.shape[-1], ignore_index, shift)
        scores = _index_label_scores(logits, labels, names, ignore_index, shift)
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
    group: dist.ProcessGroup | None = None,
) -> Tensor:
    """EL2N of each row, the L2 norm of softmax(logits) - onehot(label), in [0, sqrt 2].

    The arguments, result, errors, accuracy and cost are those of ``score(logits, labels, "el2n", ...)``.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[4.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        >>> el2n(logits, torch.tensor([0, 2]))
        tensor([0.0433, 0.9989])
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
        group=group,
    )


def joint_el2n(heads: Sequence[LogitsAndLabels] | Mapping[str, LogitsAndLabels], *, reduce: str = "norm") -> Tensor:
    """One EL2N for each example of a model with several heads (arXiv 2306.03208).

    Args:
        heads: (logits, labels) or (logits, labels, ignore_index) of each head, in a sequence or by name. Labels are
            (B,) or (B, T). B is the same for all heads, and each head has its own T. Logits have one more dimension,
            the head's own classes.
        reduce: With "norm", the root of the sum of s^2 over all heads and tokens, the paper's sqrt(s_intent^2 + sum_t
            s_slot_t^2). With "mean", the mean over heads of the head's mean over its valid tokens, the paper's
            (s_intent + mean_t s_slot_t) / 2. With "sum" or "max", that over all heads and tokens.

    Returns:
        (B,) fp32. A head with no valid label in an example adds 0.

    Errors, accuracy and cost are those of `score`, for each head.

    Example:
        >>> import torch
        >>> intent_logits, intents = torch.tensor([[4.0, 0.0], [0.0, 4.0]]), torch.tensor([0, 0])
        >>> tag_logits, tags = torch.zeros(2, 3, 5), torch.tensor([[0, 1, -100], [0, 1, 2]])
        >>> joint_el2n({"intent": (intent_logits, intents), "tags": (tag_logits, tags)})
        tensor([1.2652, 2.0806])
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
        s = _index_label_scores(logits, labels, ("el2n",), ignore_index, 0)["el2n"]
        valid = _valid(labels, ignore_index, 0)
        parts[name] = (s, valid) if labels.ndim == 2 else (s.unsqueeze(-1), valid.unsqueeze(-1))
    batches = {name: s.shape[0] for name, (s, _) in parts.items()}
    if len(set(batches.values())) > 1:
        raise ValueError(f"heads must have the same batch size, got {batches}")
    return reduce_heads(list(parts.values()), reduce)


def is_soft(logits: Tensor, labels: Tensor) -> bool:
    """Whether the labels hold a probability for each class."""
    both = isinstance(logits, Tensor) and isinstance(labels, Tensor)
    return both and labels.is_floating_point() and labels.shape == logits.shape


def computed_rows(
    metrics: tuple[str, ...], fused: dict[str, Tensor], logits: Tensor, labels: Tensor, ignore_index: int, shift: int
) -> dict[str, Tensor]:
    """The row scores ``metrics`` of class indices. ``fused`` holds those that the kernels have computed."""
    moved = shifted_labels(labels, ignore_index, shift)
    counted = moved != ignore_index
    wrong = counted & ((moved < 0) | (moved >= logits.shape[-1]))
    with torch.no_grad():
        found = completed(metrics, Given(logits.detach(), labels, ignore_index, shift, scores=fused))
        return {
            name: rows if name in fused else torch.where(counted, rows.float(), 0.0).masked_fill(wrong, torch.nan)
            for name, rows in found.items()
        }


class _Options(NamedTuple):
    """The options of `score`."""

    multi_label: bool
    ignore_index: int
    shift: int
    reduce: str | None
    validate_labels: bool


def _of_group(
    logits: Tensor, labels: Tensor, metrics: Metrics, options: _Options, group: dist.ProcessGroup
) -> Tensor | dict[str, Tensor]:
    """The scores of rows whose classes are spread over the ranks of the group."""

    def check() -> tuple[str, ...]:
        if sharded.is_sharded(logits):
            raise ValueError("logits are a DTensor, which knows where its classes are; leave group out")
        return _names_of_parts(logits, labels, metrics, options)

    names, parts = agreed(logits, labels, group, "score", check, (metrics, *options))
    found = scores_of_parts(logits, labels, names, parts, *options[1:])
    return found[metrics] if isinstance(metrics, str) else found


def _sharded(logits: Any, labels: Tensor, metrics: Metrics, options: _Options) -> Any:
    """The scores of a DTensor, as DTensors."""
    names = _names_of_parts(logits, labels, metrics, options) if sharded.shards_classes(logits) else ()
    z, y, parts = sharded.local(logits, labels, across_tokens=bool(options.shift or options.reduce))
    if parts is None:
        found: Any = score(z, y, metrics, **options._asdict())
    else:
        found = scores_of_parts(z, y, names, parts, *options[1:])
        found = found[metrics] if isinstance(metrics, str) else found
    if isinstance(found, Tensor):
        return sharded.as_rows_of(found, logits)
    return {name: sharded.as_rows_of(rows, logits) for name, rows in found.items()}


def _names_of_parts(logits: Tensor, labels: Tensor, metrics: Metrics, options: _Options) -> tuple[str, ...]:
    """The metrics. Raises unless the scores are offered where the classes of a row are spread over ranks."""
    names = check_metrics(metrics)
    check_offered(labels, names, options.multi_label)
    check_rows(logits, labels, options.ignore_index, options.shift)
    check_reduce(options.reduce, labels.shape)
    return names


def _index_label_scores(
    logits: Tensor, labels: Tensor, metrics: tuple[str, ...], ignore_index: int, shift: int
) -> dict[str, Tensor]:
    """The scores of rows whose labels are class indices."""
    fused = kernel_part(metrics)
    if fused == metrics:
        return _fused_rows(logits, labels, metrics, ignore_index, shift)
    if not fused and logits.is_cpu and ops.direct(logits, labels):  # otherwise the kernel checks each label
        check_labels(labels, logits.shape[-1], ignore_index, shift)
    rows = _fused_rows(logits, labels, fused, ignore_index, shift) if fused else {}
    return computed_rows(metrics, rows, logits, labels, ignore_index, shift)


def _fused_rows(
    logits: Tensor, labels: Tensor, metrics: tuple[str, ...], ignore_index: int, shift: int
) -> dict[str, Tensor]:
    if ops.direct(logits, labels):
        check_data(logits=logits, labels=labels)
        return kernels.row_scores(logits, class_indices(labels), metrics, ignore_index, shift)
    if torch.jit.is_tracing():  # tracing does not support a list of strings, but it can follow plain PyTorch
        return definition.row_scores(logits, labels, metrics, ignore_index, shift)
    labels = class_indices(labels)
    rows = torch.ops.fastprune.row_scores(logits.detach(), labels, metrics, ignore_index, shift)
    return dict(zip(metrics, rows, strict=True))


# How many logits the definition computes at a time. That takes about 50 MB of temporaries.
_PIECE = 2**20


def _target_scores(
    logits: Tensor, targets: Tensor, metrics: tuple[str, ...], multi_label: bool, ignore_index: int
) -> dict[str, Tensor]:
    """The scores of rows whose labels are a number for each class: probabilities, or several labels."""
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
