"""`linear_score` and `linear_cross_entropy`: scores and loss of a language model's head, without its logits.

The last layer of a language model makes V logits of each hidden state, and V is 32,000 to 256,000. The matrix of all
logits is the largest tensor of a training step. Here it never exists: a product of the library makes a tile of it, and
the sums of the rows fold the tile. `fastprune.scores.linear_tiles` has the algorithm, the byte counts and the reasons.
"""

from __future__ import annotations

from typing import overload

import torch
from torch import Tensor

from fastprune.platform.gpu import runs_triton
from fastprune.scores import ops, sharded
from fastprune.scores.api import score
from fastprune.scores.checks import as_float, as_int, check_labels, check_metrics, check_reduce, check_reduction_name
from fastprune.scores.crossentropy import cross_entropy, returned
from fastprune.scores.definition import shifted_labels
from fastprune.scores.linear_checks import check_head, check_row_weight, check_states
from fastprune.scores.linear_head import LinearHead, logits_of
from fastprune.scores.linear_ops import LinearOptions, rows_of_head
from fastprune.scores.linear_reduced import reduced_with_gradient
from fastprune.scores.linear_rows import rows_with_gradient
from fastprune.scores.linear_tiles import goes_by_rows
from fastprune.scores.metrics import kernel_part
from fastprune.scores.reduce import reduce_tokens
from fastprune.scores.tile_sums import Wanted

Metrics = str | tuple[str, ...] | list[str]


@overload
def linear_score(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    metrics: str,
    *,
    bias: Tensor | None = None,
    ignore_index: int = -100,
    shift: int = 0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    reduce: str | None = None,
) -> Tensor: ...


@overload
def linear_score(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    metrics: tuple[str, ...] | list[str] = ("el2n", "loss"),
    *,
    bias: Tensor | None = None,
    ignore_index: int = -100,
    shift: int = 0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    reduce: str | None = None,
) -> dict[str, Tensor]: ...


def linear_score(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    metrics: Metrics = ("el2n", "loss"),
    *,
    bias: Tensor | None = None,
    ignore_index: int = -100,
    shift: int = 0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    reduce: str | None = None,
) -> Tensor | dict[str, Tensor]:
    """`fastprune.score` of a linear head's logits, which are never in memory as a whole.

    The logits are z = logit_scale * (hidden @ weight.T + bias), then softcap * tanh(z / softcap) if there is one.

    Args:
        hidden: (N, H) or (B, T, H) states that the head is given, in float16, bfloat16, float32 or float64.
        weight: (V, H), the head's, V >= 2, of the dtype of hidden. A DTensor is gathered. Under autocast both are cast.
        labels: (N,) or (B, T) class indices of any integer dtype.
        metrics: One name or several of `fastprune.score`. One that is not made of the kernels' takes the logits of some
            rows at a time.
        bias: (V,) or None.
        ignore_index: Rows with this label score 0. They are dropped before the matrix product.
        shift: Row t is scored against label t + shift. It is 1 for causal language models.
        softcap: Larger than 0, or None. Gemma's `final_logit_softcapping`.
        logit_scale: A factor of the logits, as Cohere's models have.
        reduce: As in `fastprune.score`: None, "norm", "mean", "sum" or "max" over the tokens of a sample.

    Returns:
        What `fastprune.score` returns: fp32 of the labels' shape, or of its batch if reduced.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: hidden, weight, bias and labels do not fit, or V = 1.
        IndexError: A label is outside [0, V), on the CPU. On a GPU that row scores NaN.

    Accuracy: that of `fastprune.score` on the logits as the tile holds them, 4e-6. A tile has the dtype of hidden, as
    the logits of F.linear would.

    Cost: one matrix product, 2 N V H operations, and one read of its tiles from the cache. Memory: a tile of at most
    1/20 of the logits, or about 2 million numbers. On a GPU the search for ignored rows waits for the device.

    Example:
        >>> import torch
        >>> hidden, head = torch.eye(4)[:3], 4 * torch.eye(4)
        >>> linear_score(hidden, head, torch.tensor([0, 1, 3]), "el2n")  # two tokens are learned, the third is wrong
        tensor([0.0601, 0.0601, 1.3655])
    """
    names = check_metrics(metrics)
    hidden, head = _checked_head(hidden, weight, bias, labels, softcap, logit_scale)
    ignore_index, shift = as_int("ignore_index", ignore_index), as_int("shift", shift)
    check_states(hidden, labels, head, shift)
    check_reduce(reduce, labels.shape)
    moved = shifted_labels(labels, ignore_index, shift)
    if _knows_labels(labels):
        check_labels(labels, head.classes, ignore_index, shift)
    with torch.no_grad():
        flat, y = hidden.detach().reshape(-1, hidden.shape[-1]), moved.reshape(-1)
        scores = {
            name: rows.reshape(labels.shape) for name, rows in _scores(flat, head, y, names, ignore_index).items()
        }
    if reduce:
        valid = moved != ignore_index
        scores = {name: reduce_tokens(rows, valid, reduce) for name, rows in scores.items()}
    return scores[metrics] if isinstance(metrics, str) else scores


@overload
def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    row_weight: Tensor | None = None,
    ignore_index: int = -100,
    shift: int = 0,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    return_scores: None = None,
) -> Tensor: ...


@overload
def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    row_weight: Tensor | None = None,
    ignore_index: int = -100,
    shift: int = 0,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    return_scores: str,
) -> tuple[Tensor, Tensor]: ...


@overload
def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    row_weight: Tensor | None = None,
    ignore_index: int = -100,
    shift: int = 0,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    return_scores: tuple[str, ...] | list[str],
) -> tuple[Tensor, dict[str, Tensor]]: ...


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    row_weight: Tensor | None = None,
    ignore_index: int = -100,
    shift: int = 0,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    return_scores: Metrics | None = None,
) -> Tensor | tuple[Tensor, Tensor] | tuple[Tensor, dict[str, Tensor]]:
    """The cross-entropy of a linear head and the scores of its rows, without its matrix of logits.

    The loss of a row is that of `fastprune.cross_entropy` on the logits of `linear_score`. Gradients flow to hidden,
    weight and bias. A frozen head costs no gradient of the head. Class weights are not offered.

    Args:
        hidden: As in `linear_score`.
        weight: As in `linear_score`. It may be tied to the embedding, or made of a base and a LoRA part. The gradient
            of a DTensor, such as a head under `fully_shard`, is sharded as it is. It is the mean over the ranks of its
            mesh, as FSDP's gradients are.
        labels: As in `linear_score`.
        bias: As in `linear_score`.
        row_weight: Of the labels' shape, floating point. It multiplies each row's loss. None for ones.
        ignore_index: Rows with this label add nothing to the loss and score 0. They are dropped before the products.
        shift: As in `linear_score`.
        reduction: "mean" is the sum of the weighted losses, divided by the number of rows that count, whatever their
            weights. "sum" does not divide. "none" gives the weighted loss of each row.
        label_smoothing: In [0, 1], as torch's.
        softcap: As in `linear_score`.
        logit_scale: As in `linear_score`.
        return_scores: One metric of `linear_score`, or several.

    Returns:
        The loss, in the dtype of hidden (fp32 under autocast). It is 0-dim, or of the labels' shape with "none". With
        return_scores it is (loss, scores), and the scores are those of `linear_score`. If no row counts, the mean is
        NaN and the gradient 0, as in torch.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The arguments do not fit, or V = 1.
        IndexError: As in `linear_score`.
        RuntimeError: The gradient is differentiated again.

    Accuracy: the loss of each row to 4e-6 of the tile's logits. Gradients are added up in fp32, or inside one product.

    Cost: three matrix products where the gradients are computed with the loss. That is so for "mean" and "sum" on a
    GPU, and on the CPU in fp32. It is so in 16 bits on the CPU if 256 rows of logits fit into the memory below.
    Otherwise the logits are made again for the gradients, which is a fourth product. Memory beyond the gradients and
    their fp32 sums: 1/20 of the logits, 32 MB or 64 rows of logits, whichever is most.

    Example:
        >>> import torch
        >>> hidden = torch.eye(4)[:3].requires_grad_()
        >>> head, labels = 4 * torch.eye(4), torch.tensor([0, 1, 3])
        >>> loss, el2n = linear_cross_entropy(hidden, head, labels, return_scores="el2n")
        >>> loss.backward()
        >>> loss.detach(), el2n
        (tensor(1.3868), tensor([0.0601, 0.0601, 1.3655]))
    """
    names = () if return_scores is None else check_metrics(return_scores)
    autocast = _autocast_dtype(hidden) is not None
    check_row_weight(row_weight, labels)
    hidden, head = _checked_head(hidden, weight, bias, labels, softcap, logit_scale)
    ignore_index, shift = as_int("ignore_index", ignore_index), as_int("shift", shift)
    check_states(hidden, labels, head, shift)
    check_reduction_name(reduction)
    smoothing = as_float("label_smoothing", label_smoothing)
    if not 0.0 <= smoothing <= 1.0:
        raise ValueError(f"label_smoothing must be a number from 0 to 1, got {label_smoothing!r}")
    moved = shifted_labels(labels, ignore_index, shift)
    if _knows_labels(labels):
        check_labels(labels, head.classes, ignore_index, shift)
    flat, y = hidden.reshape(-1, hidden.shape[-1]), moved.reshape(-1)
    weights = None if row_weight is None else row_weight.reshape(-1)
    fused_all = kernel_part(names) == names  # otherwise the logits of some rows at a time give all of them
    options = LinearOptions(names if fused_all else (), ignore_index, smoothing, head.softcap, head.logit_scale)

    losses_or_sum, fused = _loss(flat, head, y, weights, reduction, options)
    loss = losses_or_sum.reshape(labels.shape) if reduction == "none" else losses_or_sum
    if not autocast and hidden.dtype != torch.float32:
        loss = loss.to(hidden.dtype)
    if not fused_all:
        with torch.no_grad():
            fused = _scores(flat.detach(), head, y, names, ignore_index)
    return returned(loss, {name: fused[name].reshape(labels.shape) for name in names}, return_scores)


def _loss(
    flat: Tensor, head: LinearHead, y: Tensor, weights: Tensor | None, reduction: str, options: LinearOptions
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of each row or the reduced one, and the kernels' scores."""
    weight, bias = head.weight, head.bias
    direct = ops.direct(flat, y, weight) and (bias is None or ops.direct(bias, y))
    if not _has_kernel(flat) or ops.transformed() or torch.jit.is_tracing():
        return _by_logits(flat, head, y, weights, reduction, options)
    wants_gradient = torch.is_grad_enabled() and any(
        part is not None and part.requires_grad for part in (flat, weight, bias)
    )
    counted = y != options.ignore_index
    fixed = weights is None or not (weights.requires_grad and torch.is_grad_enabled())
    if reduction != "none" and wants_gradient and fixed and goes_by_rows(flat, weight.shape[0]):
        ones = flat.new_ones(len(y), dtype=torch.float32) if weights is None else weights.detach().to(torch.float32)
        factor = 1.0 / counted.sum().to(torch.float32) if reduction == "mean" else ones.new_ones(())
        if direct:
            loss, rows = reduced_with_gradient(flat, weight, bias, y, ones, factor, options)
        else:
            needed = [part is not None and part.requires_grad for part in (flat, weight, bias)]
            loss, rows, *_ = torch.ops.fastprune.linear_reduced(flat, weight, bias, y, ones, factor, needed, *options)
    else:
        if direct:
            losses, rows = rows_with_gradient(flat, weight, bias, y, options)
        else:
            losses, _, rows = torch.ops.fastprune.linear_rows(flat, weight, bias, y, *options)
        loss = _reduced(losses, counted, weights, reduction)
    return loss, dict(zip(options.metrics, rows.detach(), strict=True))


def _reduced(losses: Tensor, counted: Tensor, weights: Tensor | None, reduction: str) -> Tensor:
    if weights is not None:
        losses = losses * weights.to(torch.float32)
    if reduction == "none":
        return losses
    return losses.sum() / counted.sum() if reduction == "mean" else losses.sum()


def _by_logits(
    flat: Tensor, head: LinearHead, y: Tensor, weights: Tensor | None, reduction: str, options: LinearOptions
) -> tuple[Tensor, dict[str, Tensor]]:
    """The same from a whole matrix of logits, where there is no kernel: in float64, and on other devices."""
    losses = cross_entropy(
        logits_of(flat, head),
        y,
        ignore_index=options.ignore_index,
        reduction="none",
        label_smoothing=options.label_smoothing,
        return_scores=options.metrics or ("loss",),
    )
    return _reduced(losses[0], y != options.ignore_index, weights, reduction), losses[1]


# Logits that are made at a time where a metric is computed from them.
_PIECE = 2**22


def _scores(flat: Tensor, head: LinearHead, y: Tensor, names: tuple[str, ...], ignore_index: int) -> dict[str, Tensor]:
    """The scores of (N, H) states, by name. Nothing is recorded for autograd."""
    fused = kernel_part(names)
    if fused != names:
        step = max(min(_PIECE // head.classes, (len(y) + 1) // 2), 1)
        pieces = [
            score(logits_of(flat[i : i + step], head), y[i : i + step], names, ignore_index=ignore_index)
            for i in range(0, max(len(y), 1), step)
        ]
        return {name: torch.cat([piece[name] for piece in pieces]) for name in names}
    if ops.direct(flat, y, head.weight):
        return rows_of_head(flat, head, y, ignore_index, Wanted(names)).scores
    options = LinearOptions(names, ignore_index, 0.0, head.softcap, head.logit_scale)
    _, _, rows = torch.ops.fastprune.linear_rows(flat, head.weight, head.bias, y, *options)
    return dict(zip(names, rows, strict=True))


def _knows_labels(labels: Tensor) -> bool:
    """Whether the labels can be looked at without waiting for a device. Otherwise the operators do it."""
    return labels.is_cpu and not torch.compiler.is_compiling()


def _has_kernel(hidden: Tensor) -> bool:
    return hidden.dtype != torch.float64 and (hidden.is_cpu or runs_triton(hidden))


def _checked_head(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, softcap: float | None, logit_scale: float
) -> tuple[Tensor, LinearHead]:
    """The states and the head as they are multiplied: gathered, and cast under autocast."""
    check_head(hidden, weight, bias, labels)
    if sharded.is_sharded(weight):
        weight = sharded.gathered(weight)
    if bias is not None and sharded.is_sharded(bias):
        bias = sharded.gathered(bias)
    dtype = _autocast_dtype(hidden)
    if dtype is not None:
        hidden, weight = hidden.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    if weight.dtype != hidden.dtype:
        raise ValueError(
            f"weight is {weight.dtype} and hidden {hidden.dtype}; use weight.to(hidden.dtype), or autocast"
        )
    cap = 0.0 if softcap is None else as_float("softcap", softcap)
    if softcap is not None and not 0.0 < cap < float("inf"):
        raise ValueError(f"softcap must be larger than 0, or None for none, got {softcap!r}")
    scale = as_float("logit_scale", logit_scale)
    if not abs(scale) < float("inf"):
        raise ValueError(f"logit_scale must be finite, got {logit_scale!r}")
    return hidden, LinearHead(weight, bias, cap, scale)


def _autocast_dtype(hidden: Tensor) -> torch.dtype | None:
    """The dtype that autocast gives to a linear layer, or None where it is off."""
    kind = hidden.device.type if isinstance(hidden, Tensor) else "cpu"
    if not torch.is_autocast_enabled(kind) or hidden.dtype == torch.float64:
        return None
    return torch.get_autocast_dtype(kind)
