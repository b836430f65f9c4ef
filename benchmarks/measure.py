"""Timing, memory and machine facts for the benchmarks.

Providers are called in turn, round after round. Each round begins with another provider. The result is the median over
rounds. So a machine that slows down slows all of them, and no provider always runs after the one that leaves the memory
in disorder. On CUDA the time is the device's, between events. The L2 cache is flushed before each call.
"""

from __future__ import annotations

import json
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

WARMUP = 2  # rounds
FLUSH_BYTES = 512 * 2**20
BUSY_CYCLES = 8_000_000  # 4 ms at 2 GHz


def timer(device: str, repeat: int = 1) -> Callable[[Callable[[], Any]], float]:
    """A function that runs a call and returns its milliseconds. On the CPU it is the mean of `repeat` calls."""
    if device == "cpu":

        def on_cpu(call: Callable[[], Any]) -> float:
            start = time.perf_counter()
            for _ in range(repeat):
                call()
            return (time.perf_counter() - start) * 1e3 / repeat

        return on_cpu

    # More than the L2 cache of any device.
    flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device=device)

    def on_cuda(call: Callable[[], Any]) -> float:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        flush.zero_()
        # The device waits until the host has launched the whole call. Otherwise the host's time would lie between the
        # events. On the machine of gpu-h100-2.jsonl, after other work, that was 0.3 ms for el2n and 0.7 ms for a loss
        # step.
        torch.cuda._sleep(BUSY_CYCLES)
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    return on_cuda


def interleaved(
    calls: dict[str, Callable[[], Any]], rounds: int, device: str, repeat: int = 1
) -> dict[str, float | None]:
    """Median milliseconds of each call. A call that fails here (memory, no compiler) has None."""
    return medians(timed(calls, device, repeat), rounds)


def timed(calls: dict[str, Callable[[], Any]], device: str, repeat: int = 1) -> dict[str, Callable[[], float]]:
    """For each call, a function that runs it and returns its milliseconds."""
    run = timer(device, repeat)

    def bound(call: Callable[[], Any]) -> Callable[[], float]:
        return lambda: run(call)

    return {name: bound(call) for name, call in calls.items()}


def medians(
    timed: dict[str, Callable[[], float]], rounds: int, patience: float = float("inf")
) -> dict[str, float | None]:
    """The median of the milliseconds that each function returns. A function that fails has None."""
    found = samples(timed, rounds, patience)
    return {name: None if isinstance(ms, str) else statistics.median(ms) for name, ms in found.items()}


def samples(
    timed: dict[str, Callable[[], float]], rounds: int, patience: float = float("inf")
) -> dict[str, list[float] | str]:
    """All milliseconds that each function returns. A function that fails has the text of its error.

    The first rounds compile and warm up, so they do not count. A function that has taken `patience` seconds by the
    clock is called at most three times after them.
    """
    times: dict[str, list[float]] = {name: [] for name in timed}
    spent = dict.fromkeys(timed, 0.0)
    failed: dict[str, str] = {}
    names = list(timed)
    for round in range(rounds + WARMUP):
        first = round % len(names)
        for name in names[first:] + names[:first]:
            if name in failed or (spent[name] > patience and len(times[name]) >= WARMUP + 3):
                continue
            start = time.perf_counter()
            try:
                times[name].append(timed[name]())
            except Exception as error:  # a provider that cannot run is a result too
                failed[name] = f"{type(error).__name__}: {str(error)[:200]}"
                print(f"{name} failed: {failed[name]}", file=sys.stderr)
            spent[name] += time.perf_counter() - start
    return {name: failed.get(name, t[WARMUP:]) for name, t in times.items()}


def peak_memory(call: Callable[[], Any], device: str) -> int | None:
    """Bytes that the call needs at its peak beyond what was there before. None where that cannot be measured.

    On the CPU it is the resident memory of the process. That shows allocations from 32 MiB on. glibc may have kept
    smaller blocks from earlier calls.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
        before = _status("VmRSS")
        call()
        return max(_status("VmHWM") - before, 0)
    except OSError:
        return None


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(field)


def copy_bandwidth(rounds: int, size: int = 2**30) -> float:
    """GB/s of a copy of `size` bytes on the CUDA device. Bytes read and bytes written both count."""
    source = torch.empty(size, dtype=torch.int8, device="cuda").random_()
    target = torch.empty_like(source)
    ms = interleaved({"copy": lambda: target.copy_(source)}, rounds, "cuda")["copy"]
    assert ms is not None
    return 2 * source.numel() / ms / 1e6


def environment(device: str) -> dict[str, Any]:
    """The machine and the versions, which every results file names."""
    import fastprune  # not at the top, because `gpu.steps.machine` runs before the core is built
    from fastprune import _core

    facts = {
        "device": torch.cuda.get_device_name() if device == "cuda" else processor_name(),
        "threads": torch.get_num_threads(),
        "instruction set": _core.instruction_set(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    for package in ("triton", "liger_kernel"):
        facts[package] = version(package)
    return facts | {"fastprune": fastprune.__version__, "date": datetime.now(UTC).isoformat(timespec="seconds")}


def version(package: str) -> str | None:
    """The installed version, or None if the package is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def processor_name() -> str:
    try:
        facts = {}
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
        return f"{facts['model name']} family {facts['cpu family']} model {facts['model']}"
    except (OSError, KeyError):
        return platform.processor() or platform.machine()


def machine_kind(device: str) -> str:
    """A file name that machines with the same processor or GPU share."""
    name = torch.cuda.get_device_name() if device == "cuda" else processor_name()
    return re.sub(r"[^a-z0-9]+", "-", name.lower().replace("(r)", "")).strip("-")


def stem_of(folder: Path, benchmark: str, device: str) -> Path:
    """The path of a benchmark's results on this machine, without suffix. Other processors have other paths."""
    return folder / f"{benchmark}-{machine_kind(device)}"


def write_results(stem: Path, run: dict[str, Any], sections: list[str], draw: Callable[[Path], None]) -> None:
    """Write stem.json, stem.md and stem.png.

    The JSON holds `run`. The page holds the sections, with the machine's facts after the first one.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".json").write_text(json.dumps(run, indent=2) + "\n")
    facts = "\n".join(f"- {key}: {value}" for key, value in run["environment"].items())
    stem.with_suffix(".md").write_text("\n\n".join([sections[0], facts, *sections[1:]]) + "\n")
    files = [".json", ".md"]
    try:
        draw(stem.with_suffix(".png"))
        files.append(".png")
    except ImportError as error:  # a bare GPU machine has no matplotlib, and the JSON is enough for a picture later
        print(f"no picture: {error}")
    print(f"wrote {stem}{', '.join(files)}")
