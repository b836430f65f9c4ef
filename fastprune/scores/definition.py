"""The specification of the row scores, in plain PyTorch and double precision.

For a row of logits z with label y and p = softmax(z)::

    el2n        || p - onehot(y) ||_2     Paul et al. 2021 (arXiv 2107.07075), arXiv 2306.03208
    loss        -log p_y
    confidence  p_y
    margin      z_y - max_{i != y} z_i
    entropy     -sum_i p_i log p_i        in nats
    correct     1 if z_y >= max_{i != y} z_i, else 0

Computed like this, most of them lose digits to cancellation if the model is confident. That is where easy examples have
to be ranked. So the label is left out of the sums, and no number is subtracted from one close to it::

    m  = max_{i != y} z_i,     M = max(m, z_y)
    S1 = sum_{i != y} e^(z_i - m),   S2 = sum_{i != y} (e^(z_i - m))^2
    w  = e^(m - M),  p~ = e^(z_y - M)
    EL2N       = w sqrt(S1^2 + S2) / (w S1 + p~)
    loss       = max(m - z_y, 0) + log1p(v)     v = w S1 if z_y >= m, else (S1 - 1) + p~
    confidence = p~ / (w S1 + p~)

Entropy leaves out the largest logit instead, at index t. All terms are >= 0::

    R = sum_{i != t} e^(z_i - M)
    T = sum_{i != t} e^(z_i - M) (M - z_i)
    entropy = log1p(R) + T / (1 + R)

The same is done with a target q per class. For probabilities (soft labels) EL2N is the norm of p - q, and the loss is
-sum_i q_i log p_i. For independent labels p is the sigmoid, and the loss is -sum_i q_i log p_i + (1 - q_i) log(1 -
p_i).

The kernels are tested against this file. Devices without a kernel run it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastprune.scores.labels import class_indices, is_counted
from fastprune.scores.metrics import KERNEL_METRICS, TABLE

METRICS = KERNEL_METRICS
TARGET_METRICS = tuple(name for name in METRICS if "multi_label" in TABLE[name].heads)


def accumulator_dtype(device: torch.device) -> torch.dtype:
    """float64, or float32 on devices without double precision."""
    return torch.float32 if device.type == "mps" else torch.float64


def shifted_labels(labels: Tensor, ignore_index: int, shift: int) -> Tensor:
    """The labels, moved so that row t holds the label it is scored against, label t + shift.

    The last `shift` rows have no label and hold `ignore_index`. The caller's tensor is not written to. The result is
    int64. With shift 0 and int64 labels it is the same tensor.
    """
    labels = class_indices(labels)
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
        labels: (...) int64 on the same device. They are 0-dim if logits is (C,), and then shift must be 0.
        metrics: Which of METRICS to return.
        ignore_index: Rows with this label score 0 in every metric, whatever their logits are.
        shift: Row t is scored against label t + shift. Rows without such a label score 0.

    Returns:
        One fp32 tensor of labels.shape for each metric. Every metric is NaN for rows with a NaN or +inf logit or only
        -inf logits. So it is for a label that is neither ignore_index nor in [0, C). Other -inf logits are left out of
        the sums. If only the label is left, el2n, loss and entropy are 0, confidence and correct are 1, and margin is
        inf. If the label itself is -inf, loss is inf, margin is -inf, and confidence and correct are 0.

    Cost: several temporaries of the logits' shape in double precision.
    """
    labels = shifted_labels(labels, ignore_index, shift)
    classes = logits.shape[-1]
    ignored = labels == ignore_index
    out_of_range = ((labels < 0) | (labels >= classes)) & ~ignored
    index = labels.clamp(0, classes - 1).unsqueeze(-1)

    z = logits.detach().to(accumulator_dtype(logits.device))
    z_label = z.gather(-1, index).squeeze(-1)
    z_others = z.scatter(-1, index, -torch.inf)
    m = z_others.amax(-1)
    top = torch.maximum(m, z_label)
    e = torch.exp(z_others - m.unsqueeze(-1))
    w, p = torch.exp(m - top), torch.exp(z_label - top)
    s1, s2 = e.sum(-1), e.square().sum(-1)

    alone = (m == -torch.inf) & z_label.isfinite()
    undefined = out_of_range | z.isnan().any(-1) | (top == torch.inf) | (top == -torch.inf)
    scores = {}
    for metric in metrics:
        if metric == "el2n":
            score, if_alone = w * torch.sqrt(s1.square() + s2) / (w * s1 + p), 0.0
        elif metric == "loss":
            v = torch.where(z_label >= m, w * s1, (s1 - 1) + p)
            score, if_alone = (m - z_label).clamp(min=0) + torch.log1p(v), 0.0
        elif metric == "confidence":
            score, if_alone = p / (w * s1 + p), 1.0
        elif metric == "margin":
            score, if_alone = z_label - m, torch.inf
        elif metric == "entropy":
            score, if_alone = _entropy(z, top), 0.0
        elif metric == "correct":
            score, if_alone = (z_label >= m).to(z.dtype), 1.0
        else:
            raise NotImplementedError(
                f"metric {metric!r} has no definition; write it in fastprune/scores/definition.py"
            )
        score = score.masked_fill(alone, if_alone).masked_fill(undefined, torch.nan).masked_fill(ignored, 0.0)
        scores[metric] = score.to(torch.float32)
    return scores


def _entropy(z: Tensor, top: Tensor) -> Tensor:
    largest = z.argmax(-1, keepdim=True)
    below = (top.unsqueeze(-1) - z).scatter(-1, largest, torch.inf)
    e = torch.exp(-below)
    r = e.sum(-1)
    t = torch.where(e > 0, e * below, 0.0).sum(-1)
    return torch.log1p(r) + t / (1 + r)


def soft_scores(logits: Tensor, targets: Tensor, metrics: tuple[str, ...]) -> dict[str, Tensor]:
    """Scores against a probability for each class.

    The class with the largest target is treated apart. Its difference is computed from what the probabilities and the
    targets leave to the other classes. So a one-hot row scores the same as its label.

    Args:
        logits: (..., C) floating point.
        targets: (..., C) floating point on the same device. Rows sum to 1.
        metrics: Which of TARGET_METRICS to return.

    Returns:
        One fp32 tensor of logits.shape[:-1] for each metric. It is NaN for rows with a NaN or +inf logit, a NaN target
        or only -inf logits. A class with logit -inf and target 0 adds nothing. With a larger target it makes the loss
        inf.
    """
    z = logits.detach().to(accumulator_dtype(logits.device))
    q = targets.detach().to(z.dtype)
    top = z.amax(-1, keepdim=True)
    e = torch.exp(z - top)
    total = e.sum(-1, keepdim=True)
    main = q.argmax(-1, keepdim=True)
    others = e.scatter(-1, main, 0.0).sum(-1, keepdim=True)
    undefined = z.isnan().any(-1) | q.isnan().any(-1) | top.isinf().squeeze(-1)
    scores = {}
    for metric in metrics:
        if metric == "el2n":
            difference = (e / total - q).scatter(-1, main, (1 - q.gather(-1, main)) - others / total)
            score = difference.norm(dim=-1)
        else:
            main_z, main_q = z.gather(-1, main), q.gather(-1, main)
            # -sum q log p, written around the class with the largest target. Its own log p is computed by log1p.
            main_loss = torch.where(main_z >= top, torch.log1p(others), (top - main_z) + total.log())
            lead = torch.where(q > 0, q * (main_z - z), 0.0).scatter(-1, main, 0.0)
            score = (q.sum(-1, keepdim=True) * main_loss).squeeze(-1) + lead.sum(-1)
            masked = (main_z == -torch.inf).squeeze(-1)
            score = torch.where(masked, torch.where(main_q.squeeze(-1) > 0, torch.inf, 0.0), score)
        scores[metric] = score.masked_fill(undefined, torch.nan).to(torch.float32)
    return scores


def multi_label_scores(
    logits: Tensor, targets: Tensor, metrics: tuple[str, ...], ignore_index: int
) -> dict[str, Tensor]:
    """Scores of rows of independent yes-or-no labels, as sigmoid heads have them. A binary head has one label.

    Args:
        logits: (..., L) floating point.
        targets: (..., L) of any dtype, 0, 1 or a probability.
        metrics: Which of TARGET_METRICS to return. The loss is the sum over the labels. That is -log of the probability
            of all labels together.
        ignore_index: Labels equal to it add nothing.

    Returns:
        One fp32 tensor of logits.shape[:-1] for each metric. It is NaN for rows with a NaN that counts. A logit of +inf
        or -inf means a probability of 1 or 0.
    """
    z = logits.detach().to(accumulator_dtype(logits.device))
    q = targets.detach().to(z.dtype)
    counted = is_counted(targets, ignore_index)
    off, on = torch.sigmoid(-z), torch.sigmoid(z)  # 1 - p and p, without a subtraction from 1
    scores = {}
    for metric in metrics:
        if metric == "el2n":
            difference = torch.where(q > 0.5, (1 - q) - off, on - q)
            score = torch.where(counted, difference, 0.0).norm(dim=-1)
        else:
            absent, present = torch.nn.functional.softplus(z), torch.nn.functional.softplus(-z)
            loss = torch.where(q == 0, 0.0, q * present) + torch.where(q == 1, 0.0, (1 - q) * absent)
            score = torch.where(counted, loss, 0.0).sum(-1)
        scores[metric] = score.to(torch.float32)
    return scores
