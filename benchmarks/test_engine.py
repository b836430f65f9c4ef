"""The engine's work in a batch and in a cycle, as pytest-benchmark cases, beside two peers.

pytest benchmarks/test_engine.py --benchmark-group-by=group --benchmark-columns=median,ops
"""

from __future__ import annotations

import pytest
from engine import (
    BATCH,
    INFOBATCH,
    KEEP,
    OTHERS,
    RECORDING,
    DCLogger,
    datacull_step,
    infobatch_cycle,
    infobatch_step,
    next_cycle,
    step_calls,
    warmed_up,
)

N = 100_000


@pytest.mark.parametrize("provider", [*RECORDING, INFOBATCH, "DataCull's logger"])
def test_recording_a_batch(benchmark, provider: str, tmp_path) -> None:
    benchmark.group = f"recording a batch of {BATCH}, n = {N:,}"
    if provider == INFOBATCH:
        benchmark(infobatch_step(N, "cpu"))
    elif provider in RECORDING:
        benchmark(step_calls(provider, N, "cpu")["observe"])
    elif DCLogger is None:
        pytest.skip("needs datacull")
    else:
        benchmark(datacull_step(N, "loss", tmp_path))


@pytest.mark.parametrize("provider", [*RECORDING, *OTHERS, INFOBATCH])
def test_starting_a_cycle(benchmark, provider: str) -> None:
    benchmark.group = f"starting a cycle, n = {N:,}"
    if provider == INFOBATCH:
        first = benchmark.pedantic(infobatch_cycle(N), rounds=15, warmup_rounds=2)
        assert len(set(first)) == BATCH
        return
    pruner = warmed_up(provider, N)
    benchmark.pedantic(next_cycle(pruner), rounds=15, warmup_rounds=2)
    assert len(pruner.kept_indices.unique()) == (N if provider == "full" else KEEP * N)
