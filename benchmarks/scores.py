"""el2n against textbook eager PyTorch and torch.compile of it: milliseconds and GB/s.

    python benchmarks/scores.py --device cuda
    python benchmarks/scores.py --device cpu --quick

Every provider is called in turn, round after round, and the median over rounds is reported, so that a
machine that slows down slows all of them. On CUDA the time is the device's, between events, and the
L2 cache is flushed before each call. GB/s counts the logits once for every provider: it is the useful
rate, not the traffic, and comparable to the memory's bandwidth only for a kernel that reads once.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import fastprune

Provider = Callable[[Tensor, Tensor], Tensor]
CLASSES = (7, 150, 1000, 32_000, 128_256)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def textbook(logits: Tensor, labels: Tensor) -> Tensor:
    """|| softmax - onehot || in fp32, as it is usually written."""
    p = torch.softmax(logits.float(), -1)
    return (p - F.one_hot(labels, logits.shape[-1])).norm(dim=-1)


def useful_bytes(logits: Tensor) -> int:
    """One read of the logits: rows * C * itemsize."""
    return logits.numel() * logits.element_size()


def rows_for(classes: int, device: str, quick: bool) -> int:
    """Enough rows to fill the device: about 2^30 logits on a GPU, 2^23 on a CPU; less if quick."""
    logits = {"cuda": 2**30, "cpu": 2**23}[device] >> (3 if quick else 0)
    return min(max(logits // classes, 16), 2**21)


def timer(device: str) -> Callable[[Callable[[], Any]], float]:
    """A function that runs a call once and returns its milliseconds."""
    if device == "cpu":

        def on_cpu(call: Callable[[], Any]) -> float:
            start = time.perf_counter()
            call()
            return (time.perf_counter() - start) * 1e3

        return on_cpu

    # Twice the L2 cache of the largest current devices.
    flush = torch.empty(256 * 2**20, dtype=torch.int8, device=device)

    def on_cuda(call: Callable[[], Any]) -> float:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        flush.zero_()
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    return on_cuda


def measure(
    providers: dict[str, Provider], logits: Tensor, labels: Tensor, rounds: int, device: str
) -> dict[str, float | None]:
    """Median milliseconds of each provider; None for one that fails here (memory, no compiler)."""
    times: dict[str, list[float]] = {name: [] for name in providers}
    failed: set[str] = set()
    run = timer(device)
    for round in range(rounds + 2):
        for name, provider in providers.items():
            if name in failed:
                continue
            try:
                ms = run(lambda provider=provider: provider(logits, labels))
            except Exception as error:  # a provider that cannot run is a result too
                print(f"{name} failed: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
                failed.add(name)
                continue
            if round >= 2:  # the first two compile and warm up
                times[name].append(ms)
    return {name: None if name in failed else statistics.median(t) for name, t in times.items()}


def benchmark(device: str, quick: bool, rounds: int) -> list[dict[str, Any]]:
    generator = torch.Generator(device).manual_seed(0)
    results = []
    for classes in CLASSES:
        for dtype_name, dtype in DTYPES.items():
            rows = rows_for(classes, device, quick)
            logits = torch.empty(rows, classes, dtype=dtype, device=device).normal_(0, 3, generator=generator)
            labels = torch.randint(classes, (rows,), device=device, generator=generator)
            torch.compiler.reset()  # a fresh specialisation for each shape, not a dynamic one
            providers: dict[str, Provider] = {
                "fastprune": fastprune.el2n,
                "eager": textbook,
                "compile": torch.compile(textbook),
            }
            medians = measure(providers, logits, labels, rounds, device)
            ours = medians["fastprune"]
            for name, ms in medians.items():
                results.append(
                    {
                        "provider": name,
                        "classes": classes,
                        "rows": rows,
                        "dtype": dtype_name,
                        "ms": ms,
                        "gb_per_s": ms and useful_bytes(logits) / ms / 1e6,
                        "times_fastprune": ms and ours and ms / ours,
                    }
                )
            print(table(results[-len(medians) :], header=len(results) == len(medians)), flush=True)
            del logits, labels
    return results


def table(results: list[dict[str, Any]], header: bool = True) -> str:
    lines = []
    if header:
        lines += [
            "| C | rows | dtype | provider | ms | GB/s (useful) | time / fastprune |",
            "|--:|--:|---|---|--:|--:|--:|",
        ]
    for r in results:
        numbers = "failed | – | –"
        if r["ms"]:
            numbers = f"{r['ms']:.3f} | {r['gb_per_s']:.1f} | {r['times_fastprune'] or 0:.2f}"
        lines.append(f"| {r['classes']} | {r['rows']} | {r['dtype']} | {r['provider']} | {numbers} |")
    return "\n".join(lines)


def environment(device: str) -> dict[str, Any]:
    try:
        import triton

        triton_version = triton.__version__
    except ImportError:
        triton_version = None
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else processor_name(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": triton_version,
        "fastprune": fastprune.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="an eighth of the rows, 5 rounds")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()

    rounds = 5 if args.quick else 15
    where = environment(args.device)
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    results = benchmark(args.device, args.quick, rounds)

    args.out.mkdir(parents=True, exist_ok=True)
    stem = args.out / f"scores-{args.device}"
    run = {"environment": where, "rounds": rounds, "quick": args.quick, "results": results}
    stem.with_suffix(".json").write_text(json.dumps(run, indent=2) + "\n")
    facts = "\n".join(f"- {key}: {value}" for key, value in where.items())
    stem.with_suffix(".md").write_text(
        f"# el2n, median of {rounds} interleaved rounds\n\n{facts}\n\n{table(results)}\n"
    )
    print(f"wrote {stem}.json and {stem}.md")


if __name__ == "__main__":
    main()
