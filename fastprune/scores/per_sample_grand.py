"""GraNd of all parameters: the norm of the gradient of each example, by `torch.func`.

GraNd = || grad_w L(x, y) || is from Paul et al. 2021 (arXiv 2107.07075). `grand` is the same for the last layer alone,
in closed form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fastprune.platform.torch_private import tree_map


def per_sample_grand(
    model: nn.Module,
    loss_fn: Callable[[Callable[..., Any], Any], Tensor],
    batch: Any,
    *,
    chunk_size: int | None = None,
) -> Tensor:
    """The norm of each example's gradient with respect to all parameters that require one, exactly.

    Args:
        model: The model, in the mode in which it is to be scored. In that mode it must not use random numbers or batch
            statistics.
        loss_fn: ``(model, batch of one) -> scalar``. It calls its first argument as it would call the model.
        batch: A tensor, or a dict, list or tuple of tensors, each (B, ...).
        chunk_size: How many examples are computed at a time. Their gradients are in memory together.

    Returns:
        (B,) fp32.

    Raises:
        ValueError: The model has no parameter that requires a gradient.

    Cost: a forward and a backward pass over the batch, vectorised over examples.

    Example:
        >>> model = torch.nn.Linear(2, 2)
        >>> batch = {"x": torch.randn(3, 2), "y": torch.tensor([0, 1, 0])}
        >>> per_sample_grand(
        ...     model, lambda call, one: torch.nn.functional.cross_entropy(call(one["x"]), one["y"]), batch
        ... ).shape
        torch.Size([3])
    """
    trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    if not trained:
        raise ValueError("model has no parameter that requires a gradient; GraNd is a norm over those")
    fixed = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}
    buffers = dict(model.named_buffers())

    def loss(parameters: dict[str, Tensor], example: Any) -> Tensor:
        def call(*args: Any, **kwargs: Any) -> Any:
            return torch.func.functional_call(model, {**parameters, **fixed, **buffers}, args, kwargs)

        return loss_fn(call, tree_map(lambda t: t.unsqueeze(0), example))

    def norm(example: Any) -> Tensor:
        gradients = torch.func.grad(loss)(trained, example)
        return torch.stack([g.float().square().sum() for g in gradients.values()]).sum().sqrt()

    return torch.func.vmap(norm, chunk_size=chunk_size)(batch).detach()
