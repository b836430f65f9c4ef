"""Step 6: the k largest of 10^7 scores on the device, against torch.topk, which gives them in no order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import measure
import torch

import fastprune
from gpu.cases import SELECTION, TOY_SELECTION
from gpu.step import Context


def scores_of(kind: str, n: int, device: str) -> torch.Tensor:
    """(n,) fp32 in [0, 1); "ties" have 60 % at the minimum."""
    generator = torch.Generator(device).manual_seed(0)
    scores = torch.rand(n, generator=generator, device=device)
    if kind == "ties":
        scores[torch.rand(n, generator=generator, device=device) < 0.6] = 0.0
    return scores


def calls_of(scores: torch.Tensor, k: int) -> dict[str, Callable[[], Any]]:
    """fastprune looks for no NaN, which would wait for the device. torch.topk alone gives indices in no order."""
    return {
        "fastprune": lambda: fastprune.select_topk(scores, k, nan="last"),
        "torch.topk": lambda: scores.topk(k, sorted=False).indices,
        "torch.topk + sort": lambda: scores.topk(k, sorted=False).indices.sort().values,
    }


def run(context: Context) -> None:
    cases, rounds = (TOY_SELECTION, 1) if context.rehearsal else (SELECTION, 15)
    for kind, n, keep in cases:
        scores, k = scores_of(kind, n, context.device), round(keep * n)
        chosen = fastprune.select_topk(scores, k, nan="last")
        threshold = scores.topk(k, sorted=False).values.min()
        right = bool(
            (scores[chosen] >= threshold).all() and (chosen[1:] > chosen[:-1]).all() and (scores > threshold).sum() <= k
        )
        times = measure.samples(measure.timed(calls_of(scores, k), context.device), rounds)
        context.record("selection", scores=kind, n=n, keep=keep, k=k, right=right, ms=times)
