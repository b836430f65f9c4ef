"""The scores and the loss as operators of PyTorch: what torch.compile, export and fake tensors see.

Eager calls go to the kernels directly (`direct`). An operator of torch.library that does nothing costs about 9 us a
call, as much as scoring a small batch.

An operator takes the fields of `LossOptions` one by one, because a schema knows no other form. Only the functions of
this file take them apart and put them together again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastprune.platform.torch_private import (
    apply_untransformed,
    dispatch_modes,
    has_storage,
    is_forward_mode,
    is_functorch_active,
    is_jit_tracing,
    is_zero_tensor,
)
from fastprune.scores import kernels
from fastprune.scores.checks import check_data, check_loss, check_rows
from fastprune.scores.metrics import KERNEL_METRICS
from fastprune.scores.options import LossOptions

NO_SECOND_DERIVATIVE = (
    "fastprune.cross_entropy has no second derivative; use torch.nn.functional.cross_entropy where you need one"
)


def direct(logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> bool:
    """Whether this call computes with plain tensors. Otherwise something traces, fakes or transforms it."""
    if torch.compiler.is_compiling() or dispatch_modes() > 0:
        return False
    plain = type(logits) in _PLAIN and type(labels) is Tensor and (weight is None or type(weight) in _PLAIN)
    return plain and not (logits.is_meta or transformed() or is_jit_tracing())


def transformed() -> bool:
    """Whether torch.func (grad, vmap, ...) or forward-mode differentiation is active. Our gradients support neither."""
    return is_functorch_active() or is_forward_mode()


_PLAIN = (Tensor, torch.nn.Parameter)


def _check(logits: Tensor, labels: Tensor, metrics: Sequence[str], ignore_index: int, shift: int) -> None:
    """Raises unless the arguments are what the kernels rely on. Anyone can call an operator, so each one checks."""
    check_rows(logits, labels, ignore_index, shift)
    if labels.dtype != torch.int64:
        raise TypeError(f"labels of torch.ops.fastprune must be int64, got {labels.dtype}; use .long()")
    for name in metrics:
        if name not in KERNEL_METRICS:
            raise ValueError(f"unknown metric {name!r}; choose from {', '.join(KERNEL_METRICS)}")


def _check_loss(logits: Tensor, labels: Tensor, weight: Tensor | None, options: LossOptions) -> None:
    _check(logits, labels, options.metrics, options.ignore_index, options.shift)
    check_loss(logits, weight, options, soft=False)
    if logits.dtype not in kernels.LOSS_DTYPES:
        raise TypeError(f"logits of this operator must be float16, bfloat16 or float32, got {logits.dtype}")
    if weight is not None and (weight.dtype != torch.float32 or not weight.is_contiguous()):
        raise TypeError("weight of torch.ops.fastprune must be float32 and contiguous; use .float().contiguous()")


def _check_backward(
    grad_loss: Tensor, state: Tensor, logits: Tensor, labels: Tensor, weight: Tensor | None, options: LossOptions
) -> None:
    _check_loss(logits, labels, weight, options)
    if state.dtype != torch.float32 or state.shape != (3 * labels.numel() + 1,) or not state.is_contiguous():
        raise ValueError(f"state must be what the forward operator returned, got {state.dtype} {tuple(state.shape)}")
    if grad_loss.dtype != torch.float32 or grad_loss.shape not in (torch.Size(), labels.shape):
        raise ValueError(
            f"grad_loss must be float32 of the loss' shape, () or {tuple(labels.shape)}, got {grad_loss.dtype} "
            f"{tuple(grad_loss.shape)}"
        )


@torch.library.custom_op(
    "fastprune::row_scores",
    mutates_args=(),
    schema="(Tensor logits, Tensor labels, str[] metrics, int ignore_index, int shift) -> Tensor",
)
def row_scores(logits: Tensor, labels: Tensor, metrics: Sequence[str], ignore_index: int, shift: int) -> Tensor:
    """The scores of `kernels.row_scores`, one after the other, as ``(len(metrics), *labels.shape)`` fp32."""
    _check(logits, labels, metrics, ignore_index, shift)
    check_data(logits=logits, labels=labels)
    scores = kernels.row_scores(logits, labels, tuple(metrics), ignore_index, shift)
    return torch.stack([scores[metric] for metric in metrics])


@row_scores.register_fake
def _(logits: Tensor, labels: Tensor, metrics: Sequence[str], ignore_index: int, shift: int) -> Tensor:
    _check(logits, labels, metrics, ignore_index, shift)
    return logits.new_empty((len(metrics), *labels.shape), dtype=torch.float32)


@torch.library.custom_op(
    "fastprune::cross_entropy",
    mutates_args=(),
    schema="(Tensor logits, Tensor labels, Tensor? weight, str[] metrics, int ignore_index, float label_smoothing, "
    "int shift, str reduction) -> (Tensor loss, Tensor state, Tensor scores)",
)
def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    metrics: Sequence[str],
    ignore_index: int,
    label_smoothing: float,
    shift: int,
    reduction: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """What `kernels.loss_forward` returns, with the scores as ``(len(metrics), *labels.shape)``."""
    options = LossOptions(tuple(metrics), ignore_index, label_smoothing, shift, reduction)
    _check_loss(logits, labels, weight, options)
    check_data(logits=logits, labels=labels, weight=weight)
    loss, state, scores = kernels.loss_forward(logits, labels, weight, options)
    rows = [scores[metric] for metric in metrics]
    return loss, state, torch.stack(rows) if rows else loss.new_empty((0, *labels.shape))


@cross_entropy.register_fake
def _(
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    metrics: Sequence[str],
    ignore_index: int,
    label_smoothing: float,
    shift: int,
    reduction: str,
) -> tuple[Tensor, Tensor, Tensor]:
    options = LossOptions(tuple(metrics), ignore_index, label_smoothing, shift, reduction)
    _check_loss(logits, labels, weight, options)

    def empty(*shape: int) -> Tensor:
        return logits.new_empty(shape, dtype=torch.float32)

    loss = empty(*labels.shape) if reduction == "none" else empty()
    return loss, empty(3 * labels.numel() + 1), empty(len(metrics), *labels.shape)


@torch.library.custom_op(
    "fastprune::cross_entropy_backward",
    mutates_args=(),
    schema="(Tensor grad_loss, Tensor state, Tensor logits, Tensor labels, Tensor? weight, "
    "int ignore_index, float label_smoothing, int shift) -> Tensor",
)
def cross_entropy_backward(
    grad_loss: Tensor,
    state: Tensor,
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    shift: int,
) -> Tensor:
    """What `kernels.loss_backward` returns."""
    options = LossOptions((), ignore_index, label_smoothing, shift)
    _check_backward(grad_loss, state, logits, labels, weight, options)
    check_data(grad_loss=grad_loss, state=state, logits=logits, labels=labels)
    return kernels.loss_backward(grad_loss, state, logits, labels, weight, options)


@cross_entropy_backward.register_fake
def _(
    grad_loss: Tensor,
    state: Tensor,
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float,
    shift: int,
) -> Tensor:
    options = LossOptions((), ignore_index, label_smoothing, shift)
    _check_backward(grad_loss, state, logits, labels, weight, options)
    return logits.new_empty(logits.shape)


def _differentiated(
    grad_loss: Tensor, state: Tensor, logits: Tensor, labels: Tensor, weight: Tensor | None, options: LossOptions
) -> Tensor:
    """The gradient by the operator."""
    _, ignore_index, label_smoothing, shift, _ = options
    return torch.ops.fastprune.cross_entropy_backward(
        grad_loss, state, logits, labels, weight, ignore_index, label_smoothing, shift
    )


def _save(ctx, inputs, output) -> None:
    logits, labels, weight, metrics, *others = inputs
    _, state, _ = output
    ctx.options = LossOptions(tuple(metrics), *others)
    ctx.save_for_backward(state, logits, labels, weight)


def _differentiate(ctx, grad_loss: Tensor, *_) -> tuple[Tensor | None, ...]:
    state, logits, labels, weight = ctx.saved_tensors
    grad = _differentiated(grad_loss, state, logits, labels, weight, ctx.options)
    return grad, None, None, *(None for _ in ctx.options)


def _refuse(ctx, *_) -> None:
    raise RuntimeError(NO_SECOND_DERIVATIVE)


torch.library.register_autograd("fastprune::cross_entropy", _differentiate, setup_context=_save)
torch.library.register_autograd("fastprune::cross_entropy_backward", _refuse)


class DirectCrossEntropy(torch.autograd.Function):
    """`cross_entropy` without the dispatcher, as ``(loss, *scores)``.

    The options are one argument, because autograd looks at each argument of a function.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, labels: Tensor, weight: Tensor | None, options: LossOptions) -> tuple[Tensor, ...]:
        """The loss and the scores. Autograd gives no gradient to the scores."""
        loss, state, scores = kernels.loss_forward(logits, labels, weight, options)
        ctx.save_for_backward(state, logits, labels, weight)
        ctx.options = options
        rows = tuple(scores.values())
        ctx.mark_non_differentiable(*rows)
        return loss, *rows

    @staticmethod
    def backward(ctx, grad_loss: Tensor, *_) -> tuple[Tensor | None, ...]:
        """The gradient with respect to the logits."""
        state, logits, labels, weight = ctx.saved_tensors
        check_data(logits=logits, labels=labels)  # they may have been freed since the forward pass
        if is_zero_tensor(grad_loss):
            grad_loss = grad_loss.clone()
        # The operator handles two more cases. With create_graph=True it says that there is no second backward pass.
        # Under vmap (is_grads_batched=True) it takes a batch of gradients.
        through_operator = torch.is_grad_enabled() or not has_storage(grad_loss)
        backward = _differentiated if through_operator else kernels.loss_backward
        return backward(grad_loss, state, logits, labels, weight, ctx.options), None, None, None


# `direct` has ruled out that torch.func transforms the call.
differentiable_cross_entropy = apply_untransformed(DirectCrossEntropy)
