"""The comparison of scores.py, as pytest-benchmark cases.

pytest benchmarks/test_scores.py --benchmark-group-by=group --benchmark-columns=median,ops
"""

from __future__ import annotations

import pytest
import torch
from providers import Provider, el2n_providers, loss_providers, score_providers

SHAPES = [(32, 7), (20_000, 7), (20_000, 150), (2_000, 1000), (64, 32_000)]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]


def cases() -> list:
    tasks = {"el2n": el2n_providers(), "scores": score_providers(), "training step": loss_providers("cuda")}
    return [pytest.param(task, p, id=f"{task}-{p.name}") for task, providers in tasks.items() for p in providers]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("task", "provider"), cases())
def test_speed(benchmark, task: str, provider: Provider, shape: tuple[int, int], device: str) -> None:
    if provider.name == "liger" and device == "cpu":
        pytest.skip("Liger's kernels are for GPUs")
    benchmark.group = f"{task}, {shape[0]} x {shape[1]}, {device}"
    rows, classes = shape
    generator = torch.Generator(device).manual_seed(0)
    logits = torch.randn(rows, classes, device=device, generator=generator)
    labels = torch.randint(classes, (rows,), device=device, generator=generator)
    logits.requires_grad_(task == "training step")

    def call() -> None:
        provider.call(logits, labels)
        if device == "cuda":
            torch.cuda.synchronize()

    torch.compiler.reset()
    call()
    benchmark(call)
