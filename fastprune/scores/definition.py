"""The specification of the row scores, in plain PyTorch and double precision.

For a row of logits z with label y (arXiv 2306.03208; EL2N of Paul et al. 2021, arXiv 2107.07075):

    EL2N = || softmax(z) - onehot(y) ||_2        loss = -log softmax(z)_y

Written that way both cancel where the model is confident, which is where "easy" examples are
ranked. With the label left out of the sums nothing is ever subtracted from a number close to it:

    m  = max_{i != y} z_i
    S1 = sum_{i != y} e^(z_i - m),   S2 = sum_{i != y} (e^(z_i - m))^2
    M  = max(m, z_y),  w = e^(m - M)
    EL2N = w sqrt(S1^2 + S2) / (w S1 + e^(z_y - M))
    loss = log1p(S1 e^(m - z_y))              if z_y >= m
           (m - z_y) + log(S1 + e^(z_y - m))  otherwise

The kernels are tested against this file; devices with neither kernel run it.
"""

from __future__ import annotations

import torch
from torch import Tensor

METRICS = ("el2n", "loss")


def accumulator_dtype(device: torch.device) -> torch.dtype:
    """float64, or float32 on devices that have no double precision."""
    return torch.float32 if device.type == "mps" else torch.float64


def shifted_labels(labels: Tensor, ignore_index: int, shift: int) -> Tensor:
    """Labels moved so that row t holds the label it is scored against, label t + shift.

    The last `shift` rows, which have none, hold `ignore_index`. The caller's tensor is not written;
    with shift 0 it is returned as it is.
    """
    if shift == 0:
        return labels
    moved = torch.full_like(labels, ignore_index)
    if shift < labels.shape[-1]:
        moved[..., :-shift] = labels[..., shift:]
    return moved


def row_scores(
    logits: Tensor, labels: Tensor, metrics: tuple[str, ...], ignore_index: int, shift: int
) -> dict[str, Tensor]:
    """Scores of every row by the definition.

    Args:
        logits: (..., C) floating point.
        labels: (...) int64 on the same device; 0-dim if logits is (C,), and then shift must be 0.
        metrics: which of METRICS to return.
        ignore_index: rows with this label score 0 whatever their logits.
        shift: row t is scored against label t + shift; rows without one score 0.

    Returns:
        One fp32 tensor of labels.shape for each metric. NaN or +inf logits, a row of only -inf, and
        labels that are neither ignore_index nor in [0, C) score NaN. Other -inf logits are left out
        of the sums; if nothing but the label is left the row scores 0.

    Cost: several temporaries of the logits' shape in double precision.
    """
    labels = shifted_labels(labels, ignore_index, shift)
    classes = logits.shape[-1]
    ignored = labels == ignore_index
    out_of_range = ((labels < 0) | (labels >= classes)) & ~ignored
    index = labels.clamp(0, classes - 1).unsqueeze(-1)

    z = logits.to(accumulator_dtype(logits.device))
    z_label = z.gather(-1, index).squeeze(-1)
    z_others = z.scatter(-1, index, -torch.inf)
    m = z_others.amax(-1)
    e = torch.exp(z_others - m.unsqueeze(-1))
    s1 = e.sum(-1)
    s2 = e.square().sum(-1)

    zero = ignored | ((m == -torch.inf) & z_label.isfinite() & ~out_of_range)
    undefined = out_of_range | (z_label == torch.inf)  # the sums carry NaN for all other cases
    scores = {}
    for metric in metrics:
        closed_form = _el2n if metric == "el2n" else _loss
        score = closed_form(m, s1, s2, z_label)
        score = score.masked_fill(undefined, torch.nan).masked_fill(zero, 0.0)
        scores[metric] = score.to(torch.float32)
    return scores


def _el2n(m: Tensor, s1: Tensor, s2: Tensor, z_label: Tensor) -> Tensor:
    top = torch.maximum(m, z_label)
    w = torch.exp(m - top)
    return w * torch.sqrt(s1.square() + s2) / (w * s1 + torch.exp(z_label - top))


def _loss(m: Tensor, s1: Tensor, s2: Tensor, z_label: Tensor) -> Tensor:
    gap = z_label - m
    confident = torch.log1p(s1 * torch.exp(-gap.clamp(min=0)))
    unsure = torch.log(s1 + torch.exp(gap.clamp(max=0))) - gap
    return torch.where(gap >= 0, confident, unsure)
