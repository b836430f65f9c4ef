"""Step 10: el2n and the loss step over many class counts, and selection over many sizes."""

from __future__ import annotations

import measure
import providers

import fastprune
from gpu.cases import SWEEP, TOY_SWEEP
from gpu.step import Context
from gpu.steps.selection import calls_of, scores_of
from gpu.timing import time_providers


def run(context: Context) -> None:
    sizes, rounds = (TOY_SWEEP, 1) if context.rehearsal else (SWEEP, 5)
    for size in sizes:
        if context.left < 6:
            return
        time_providers(context, size, "el2n", providers.el2n_eager()[:1], rounds)
        time_providers(context, size, "loss step", providers.loss_eager()[:1], rounds)
    for n in (2_000,) if context.rehearsal else (100_000, 1_000_000, 100_000_000):
        if context.left < 6:
            return
        scores, k = scores_of("uniform", n, context.device), n // 2
        right = len(fastprune.select_topk(scores, k, nan="last")) == k
        times = measure.samples(measure.timed(calls_of(scores, k), context.device), rounds)
        context.record("selection", scores="uniform", n=n, keep=0.5, k=k, right=right, ms=times)
