"""GraNd of the last layer, the norm of an example's gradient there, in closed form.

GraNd = || grad_w L(x, y) || is from Paul et al. 2021 (arXiv 2107.07075), and GraNd on the last layer from Fayyaz et al.
2022 (arXiv 2211.05610). `per_sample_grand` is the same over all parameters.

For a linear last layer z = W h + b and cross-entropy, dL/dW = (p - y) h^T and dL/db = p - y. So

    one row per example:   GraNd = || p - y || sqrt(|| h ||^2 + 1)          (without a bias: no + 1)
    tokens t of a sample:  GraNd = || sum_t (p_t - y_t) [h_t, 1]^T ||_F

The second is the gradient of the *sum* of the tokens' losses. With e_t = p_t - y_t there are two ways to compute it:

    sqrt(sum_{s,t} (e_s . e_t)(h_s . h_t + 1))    two T x T products, T (C + d) T multiplications
    the C x d matrix itself                        T C d multiplications

The cheaper one is taken.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastprune.scores import ops, sharded
from fastprune.scores.api import el2n
from fastprune.scores.checks import as_int, check_data, check_labels, check_rows
from fastprune.scores.definition import shifted_labels
from fastprune.scores.labels import is_counted


def grand(
    logits: Tensor,
    labels: Tensor,
    features: Tensor,
    *,
    bias: bool = True,
    ignore_index: int = -100,
    shift: int = 0,
) -> Tensor:
    """The norm of each example's gradient with respect to the last layer, exactly.

    Args:
        logits: (B, C) or (B, T, C), classes last, what the last layer made of ``features``.
        labels: (B,) or (B, T) integer class indices.
        features: (B, d) or (B, T, d), the input of the last layer, on the logits' device.
        bias: Whether the last layer has one.
        ignore_index: Rows with this label have no gradient.
        shift: Row t is scored against label t + shift (1 for causal language models).

    Returns:
        (B,) fp32, the norm of the gradient of the sum of the example's losses. It never requires grad. On a GPU it is
        NaN if a label is out of range, because raising an error would wait for the device.

    Raises:
        TypeError: An argument has the wrong type, or logits are a DTensor.
        ValueError: An argument has the wrong shape, or see `score`.
        IndexError: A label is out of range, on the CPU.

    Cost: for rows one read of the logits and one of the features. For tokens the softmax and B T min(T (C + d), C d)
    multiplications, in fp32. That takes the memory of at most B T (C + d) + B max(T T, C d) numbers.

    Example:
        >>> layer = torch.nn.Linear(2, 2)
        >>> features = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
        >>> scores = grand(torch.zeros(2, 2), torch.tensor([0, 1]), features, bias=layer.bias is not None)
        >>> scores  # sqrt(1/2) times the norm of (features, 1)
        tensor([1.0000, 3.6056])
    """
    ignore_index, shift = as_int("ignore_index", ignore_index), as_int("shift", shift)
    if sharded.is_sharded(logits):
        raise TypeError("logits are a DTensor, which grand does not take; pass what .to_local() gives")
    check_rows(logits, labels, ignore_index, shift)
    if features.shape[:-1] != labels.shape or labels.ndim not in (1, 2):
        raise ValueError(
            f"features must be (B, d) or (B, T, d) with labels {tuple(labels.shape)} before d, got "
            f"{tuple(features.shape)}; pass the last layer's input"
        )
    direct = ops.direct(logits, labels, features)
    if direct:
        check_data(logits=logits, labels=labels, features=features)
    with torch.no_grad():
        wide = features.detach().float()
        if labels.ndim == 1:
            norms = (wide.square().sum(-1) + float(bias)).sqrt()
            gradient = el2n(logits, labels, ignore_index=ignore_index) * norms
            return torch.where(is_counted(labels, ignore_index), gradient, 0.0)  # whatever the features
        if labels.is_cpu and direct:
            check_labels(labels, logits.shape[-1], ignore_index, shift)
        moved = shifted_labels(labels, ignore_index, shift)
        return _token_grand(logits.detach().float(), moved, wide, bias, ignore_index)


def _token_grand(logits: Tensor, labels: Tensor, features: Tensor, bias: bool, ignore_index: int) -> Tensor:
    tokens, classes, width = logits.shape[1], logits.shape[2], features.shape[2]
    ignored = (labels == ignore_index).unsqueeze(-1)
    undefined = ((labels < 0) | (labels >= classes)).unsqueeze(-1) & ~ignored
    if bias:
        features = torch.cat([features, features.new_ones(*features.shape[:2], 1)], dim=-1)
    # Padding may hold anything, and NaN times zero is NaN.
    features = features.masked_fill(ignored, 0.0)
    error = _error(logits, labels.clamp(0, classes - 1).unsqueeze(-1))
    error = error.masked_fill(undefined, torch.nan).masked_fill(ignored, 0.0)
    if tokens * (classes + width) < classes * width:
        products = (error @ error.mT) * (features @ features.mT)
        return products.sum((1, 2)).clamp_min(0.0).sqrt()
    return (error.mT @ features).flatten(1).norm(dim=1)


def _error(logits: Tensor, labels: Tensor) -> Tensor:
    """The difference p - y.

    At the label it is minus the sum of the others, because p_y - 1 cancels where the model is confident.
    """
    others = logits.softmax(-1).scatter(-1, labels, 0.0)
    return others.scatter(-1, labels, -others.sum(-1, keepdim=True))
