"""Step 1: what the machine is, and how fast it copies. Nothing here needs fastprune to be built."""

from __future__ import annotations

import platform
import subprocess
from typing import Any

import measure
import torch

from gpu.step import Context

PACKAGES = ("torch", "triton", "transformers", "numpy", "pybind11", "pytest", "liger_kernel")
QUERY = "name,driver_version,memory.total,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,power.limit,temperature.gpu"
COPY_BYTES = 4 * 2**30


def nvidia_smi() -> dict[str, str]:
    """The driver's own words; empty where there is no driver."""
    try:
        run = subprocess.run(
            ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"], capture_output=True, text=True, timeout=15
        )
        return dict(zip(QUERY.split(","), (value.strip() for value in run.stdout.split(",")), strict=True))
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return {}


def device_facts() -> dict[str, Any]:
    """What CUDA says of the device."""
    found = torch.cuda.get_device_properties(0)
    return {
        "name": found.name,
        "capability": [found.major, found.minor],
        "multiprocessors": found.multi_processor_count,
        "l2_bytes": found.L2_cache_size,
        "memory_bytes": found.total_memory,
        "cuda": torch.version.cuda,
    }


def run(context: Context) -> None:
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "processor": measure.processor_name(),
        "cores": torch.get_num_threads(),
        "versions": {name: measure.version(name) for name in PACKAGES} | {"torch": torch.__version__},
    }
    if context.rehearsal:
        context.record("machine", **facts, name="a rehearsal on " + facts["processor"])
        context.record("bandwidth", copy_gb_per_s=None, read_gb_per_s=None)
        return
    context.record("machine", **facts, **device_facts(), nvidia_smi=nvidia_smi())
    # A short read of 2 GiB, and calls of next to nothing: what no kernel can be faster than.
    source = torch.empty(2**29, dtype=torch.float32, device="cuda").normal_()
    nothing = torch.empty(1, device="cuda")
    calls = {"read": source.sum, "nothing": nothing.zero_}
    times = measure.interleaved(calls, 9, "cuda")
    context.record(
        "bandwidth",
        copy_gb_per_s=measure.copy_bandwidth(9, COPY_BYTES),
        read_gb_per_s=source.nbytes / times["read"] / 1e6 if times["read"] else None,
        smallest_launch_ms=times["nothing"],
        nvidia_smi_after=nvidia_smi(),
    )
