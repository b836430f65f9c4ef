"""What the scores and the loss are measured against, and the bytes that each provider must move.

The `bytes` of a provider are the bytes it moves for one logit of b bytes. They are what it reads and writes if nothing
stays in a cache between two operations. O(rows) is left out. The fewest possible are b for a score, and 3 b for a loss
with its gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import fastprune
from fastprune.scores.metrics import KERNEL_METRICS


@dataclass(frozen=True)
class Provider:
    name: str
    call: Callable[[Tensor, Tensor], Any]
    bytes: Callable[[int], int]


def textbook_el2n(logits: Tensor, labels: Tensor) -> Tensor:
    """|| softmax - onehot || in fp32, as it is usually written."""
    p = torch.softmax(logits.float(), -1)
    return (p - F.one_hot(labels, logits.shape[-1])).norm(dim=-1)


def textbook_bytes(b: int) -> int:
    cast = 0 if b == 4 else b + 4
    softmax, one_hot, subtract, norm = 4 + 4, 8, 4 + 8 + 4, 4
    return cast + softmax + one_hot + subtract + norm


def lean_el2n(logits: Tensor, labels: Tensor) -> Tensor:
    """The same with one temporary: the softmax, from which the one-hot is subtracted in place."""
    p = torch.softmax(logits, -1, dtype=torch.float32)
    p.scatter_add_(-1, labels[:, None], p.new_full((1, 1), -1.0).expand(len(labels), 1))
    return p.norm(dim=-1)


def forward_and_backward(loss_fn: Callable[[Tensor, Tensor], Any]) -> Callable[[Tensor, Tensor], Any]:
    """A training step of the loss alone. The gradient is computed and then dropped, and both are timed."""

    def step(logits: Tensor, labels: Tensor) -> None:
        loss = loss_fn(logits, labels)
        (loss[0] if isinstance(loss, tuple) else loss).backward()
        logits.grad = None

    return step


ALL_SIX = KERNEL_METRICS


def scores_of(*metrics: str) -> Callable[[Tensor, Tensor], Any]:
    """fastprune.score with these metrics."""
    return lambda logits, labels: fastprune.score(logits, labels, metrics)


def el2n_eager() -> list[Provider]:
    """Ours, and what PyTorch does without a compiler."""
    return [
        Provider("fastprune", fastprune.el2n, lambda b: b),
        Provider("fastprune all six", scores_of(*ALL_SIX), lambda b: b),
        Provider("textbook eager", textbook_el2n, textbook_bytes),
        Provider("lean eager", lean_el2n, lambda b: b + 4 + 4),
    ]


def el2n_compiled() -> list[Provider]:
    """A compiler that fuses everything reads the row twice: once for the sum and once for the norm."""
    return [
        Provider("compile(textbook)", torch.compile(textbook_el2n, dynamic=False), lambda b: 2 * b),
        Provider("compile(lean)", torch.compile(lean_el2n, dynamic=False), lambda b: 2 * b),
    ]


def el2n_providers() -> list[Provider]:
    return [p for p in el2n_eager() if p.name != "fastprune all six"] + el2n_compiled()


def score_providers() -> list[Provider]:
    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, reduction="none")

    return [
        Provider("fastprune loss", scores_of("loss"), lambda b: b),
        Provider("fastprune el2n + loss", scores_of("el2n", "loss"), lambda b: b),
        Provider("fastprune all six", scores_of(*ALL_SIX), lambda b: b),
        Provider("torch loss", loss, lambda b: 2 * b),  # log_softmax: one read, one write
    ]


def loss_with(scores: str | tuple[str, ...] | None) -> Callable[[Tensor, Tensor], Any]:
    """fastprune's loss, forward and backward, with these scores."""

    def loss(logits: Tensor, labels: Tensor) -> Any:
        return fastprune.cross_entropy(logits, labels, return_scores=scores)

    return forward_and_backward(loss)


def loss_eager() -> list[Provider]:
    """Ours with and without scores, and PyTorch's without a compiler."""
    return [
        Provider("fastprune with el2n", loss_with("el2n"), lambda b: 3 * b),
        Provider("fastprune", loss_with(None), lambda b: 3 * b),
        # log_softmax takes 2 b. Its gradient takes 4 b: the zeros with the label's 1, then two reads and a write.
        Provider("torch", forward_and_backward(F.cross_entropy), lambda b: 6 * b),
    ]


def loss_compiled() -> list[Provider]:
    compiled = torch.compile(lambda z, y: F.cross_entropy(z, y), dynamic=False)
    return [Provider("compile(torch)", forward_and_backward(compiled), lambda b: 4 * b)]


def liger() -> list[Provider]:
    """Liger's Triton kernel, or nothing where it is not installed.

    It writes the gradient over the logits, so each call finds other values there. They cost the same. A copy before the
    call would be timed with it.
    """
    try:
        from liger_kernel.transformers.functional import liger_cross_entropy
    except ImportError:
        return []
    return [Provider("liger", forward_and_backward(liger_cross_entropy), lambda b: 3 * b)]


def loss_providers(device: str) -> list[Provider]:
    return loss_eager() + loss_compiled() + (liger() if device == "cuda" else [])
