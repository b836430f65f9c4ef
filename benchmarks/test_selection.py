"""Selection against its peers as pytest-benchmark cases.

pytest benchmarks/test_selection.py --benchmark-group-by=group --benchmark-columns=median,ops
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from selection import argpartition, scores_of

import fastprune

PROVIDERS = {
    "fastprune": fastprune.select_topk,
    "argpartition": lambda scores, k: argpartition(scores.numpy(), k),
    "argpartition + sort": lambda scores, k: np.sort(argpartition(scores.numpy(), k)),
    "topk": lambda scores, k: scores.topk(k, sorted=False).indices,
    "argsort": lambda scores, k: np.sort(np.argsort(scores.numpy())[len(scores) - k :]),
}


@pytest.mark.parametrize("n", [10_000, 1_000_000])
@pytest.mark.parametrize("kind", ["uniform", "ties"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_speed(benchmark, provider: str, kind: str, n: int) -> None:
    benchmark.group = f"{kind}, half of {n:,}"
    scores = scores_of(kind, n)
    torch.testing.assert_close(np.sort(PROVIDERS[provider](scores, 5)), np.sort(scores.topk(5).indices))
    benchmark(PROVIDERS[provider], scores, n // 2)
