"""select_topk against NumPy and PyTorch: milliseconds, scores a second, share of the roofline.

    python benchmarks/selection.py                       # to 10^7 scores, about 6 minutes
    python benchmarks/selection.py --max-n 100000000     # three quarters of an hour, 6 GB
    python benchmarks/selection.py --device cuda

Only fastprune and providers with "+ sort" give ascending indices. The providers are:

- fastprune, on all threads and on one.
- np.argpartition as it comes, and in a process of its own with its AVX-512 forms disabled. On some processors these are
  the slower ones.
- torch.topk(sorted=False).
- A full sort, np.argsort.

All peers use one thread. Indices are sorted by np.sort, which is faster than PyTorch's. PyTorch's threads are woken
before each timing, because threads that sleep cost any operator milliseconds. On CUDA fastprune does not look for NaN,
because that would wait for the device.

The roofline is two reads of the scores (torch.sum, all threads) and one write of the indices into fresh memory, with
page faults. The pages are small, or large where that is faster. On CUDA it is the bandwidth of a copy.

Writes selection-DEVICE.json, .md and .png to --out.
"""

from __future__ import annotations

import argparse
import mmap
import multiprocessing
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch

import fastprune

SIZES = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
KEEP = (0.01, 0.2, 0.5, 0.8)
KINDS = ("uniform", "el2n", "ties", "sorted")
NO_AVX512 = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR X86_V4"
ASCENDING = (
    "fastprune",
    "fastprune, 1 thread",
    "argpartition + sort",
    "argpartition AVX2 + sort",
    "topk + sort",
    "argsort",
)
PATIENCE = 2.0  # seconds for a provider in a cell


@cache
def scores_of(kind: str, n: int) -> torch.Tensor:
    """(n,) float32 of one of these kinds.

    - uniform: in [0, 1).
    - el2n: of a classifier of 7 classes that is sure of most examples, and wrongly sure of some. There is mass near 0
      and at the root of 2.
    - ties: uniform, with 60 % at the minimum.
    - sorted: uniform, ascending.
    """
    generator = torch.Generator().manual_seed(0)
    if kind == "el2n":
        pieces = []
        for start in range(0, n, 1_000_000):
            size = min(1_000_000, n - start)
            labels = torch.randint(7, (size,), generator=generator)
            logits = torch.randn(size, 7, generator=generator) * 3
            predicted = torch.where(torch.rand(size, generator=generator) < 0.9, labels, 0)
            logits[torch.arange(size), predicted] += torch.rand(size, generator=generator) * 25
            pieces.append(fastprune.el2n(logits, labels))
        return torch.cat(pieces)
    scores = torch.rand(n, generator=generator)
    if kind == "ties":
        scores[torch.rand(n, generator=generator) < 0.6] = 0.0
    return scores.sort().values if kind == "sorted" else scores


def argpartition(scores: np.ndarray, k: int) -> np.ndarray:
    n = len(scores)
    return np.argpartition(scores, n - k)[n - k :]


def numpy_calls(scores: np.ndarray, k: int, name: str) -> dict[str, Callable[[], Any]]:
    return {name: lambda: argpartition(scores, k), f"{name} + sort": lambda: np.sort(argpartition(scores, k))}


def fill_small_pages(k: int) -> None:
    torch.empty(k, dtype=torch.int64).fill_(1)


def fill_large_pages(k: int) -> None:
    memory = mmap.mmap(-1, max(8 * k, mmap.PAGESIZE), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    torch.frombuffer(memory, dtype=torch.int64, count=k).fill_(1)


def wake_threads() -> None:
    """Wait until PyTorch's threads answer at once. On a shared core it may take milliseconds to wake them."""
    some = torch.ones(2**18)
    for _ in range(100):
        if measure.timer("cpu")(some.sum) < 0.1:
            return


def serve(pipe: Any) -> None:
    """The process whose NumPy has no AVX-512. It times calls on request."""
    torch.set_num_threads(1)
    while (request := pipe.recv()) is not None:
        name, kind, n, k, repeat = request
        call = numpy_calls(scores_of(kind, n).numpy(), k, "argpartition AVX2")[name]
        pipe.send(measure.timer("cpu", repeat)(call))


class Without512:
    """A process that times NumPy without its AVX-512 forms."""

    def __enter__(self) -> Without512:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        os.environ["NPY_DISABLE_CPU_FEATURES"] = NO_AVX512
        self.process = context.Process(target=serve, args=(theirs,), daemon=True)
        self.process.start()
        del os.environ["NPY_DISABLE_CPU_FEATURES"]
        return self

    def time(self, *request: Any) -> float:
        self.pipe.send(request)
        return self.pipe.recv()

    def __exit__(self, *_: Any) -> None:
        self.pipe.send(None)
        self.process.join()


def cpu_cell(kind: str, n: int, keep: float, rounds: int, other: Without512) -> dict[str, float | None]:
    """Median milliseconds by provider, and of the parts of the roofline."""
    scores, k = scores_of(kind, n), int(keep * n)
    array, threads = scores.numpy(), torch.get_num_threads()
    # A call of microseconds is timed many times in a row, as in a loop.
    repeat = max(1, min(200, 10_000_000 // n))
    run = measure.timer("cpu", repeat)

    def on_one_thread() -> float:
        torch.set_num_threads(1)
        try:
            return run(lambda: fastprune.select_topk(scores, k))
        finally:
            torch.set_num_threads(threads)

    def timed(call: Callable[[], Any]) -> Callable[[], float]:
        def awake() -> float:
            wake_threads()
            return run(call)

        return awake

    def elsewhere(name: str) -> Callable[[], float]:
        return lambda: other.time(name, kind, n, k, repeat)

    calls: dict[str, Callable[[], Any]] = {
        "fastprune": lambda: fastprune.select_topk(scores, k),
        **numpy_calls(array, k, "argpartition"),
        "topk": lambda: scores.topk(k, sorted=False).indices,
        "topk + sort": lambda: np.sort(scores.topk(k, sorted=False).indices.numpy()),
        "argsort": lambda: np.sort(np.argsort(array)[n - k :]),
        "read": scores.sum,
        "write, small pages": lambda: fill_small_pages(k),
        "write, large pages": lambda: fill_large_pages(k),
    }
    all_timed = {name: timed(call) for name, call in calls.items()}
    all_timed["fastprune, 1 thread"] = on_one_thread
    for name in ("argpartition AVX2", "argpartition AVX2 + sort"):
        all_timed[name] = elsewhere(name)
    return measure.medians(all_timed, rounds, PATIENCE)


def cuda_cell(kind: str, n: int, keep: float, rounds: int) -> dict[str, float | None]:
    scores, k = scores_of(kind, n).cuda(), int(keep * n)
    calls = {
        "fastprune": lambda: fastprune.select_topk(scores, k, nan="last"),
        "topk": lambda: scores.topk(k, sorted=False).indices,
        "topk + sort": lambda: scores.topk(k, sorted=False).indices.sort().values,
        "argsort": lambda: scores.argsort()[n - k :].sort().values,
    }
    times = measure.interleaved(calls, rounds, "cuda")
    bandwidth = measure.copy_bandwidth(rounds)
    return times | {"read": 4 * n / bandwidth / 1e6, "write, large pages": 8 * k / bandwidth / 1e6}


def results_of(times: dict[str, float | None], kind: str, n: int, keep: float) -> list[dict[str, Any]]:
    writes = [ms for name, ms in times.items() if name.startswith("write") and ms]
    read = times["read"]
    assert read is not None
    roofline = 2 * read + min(writes)
    ours = times["fastprune"]
    return [
        {
            "kind": kind,
            "n": n,
            "keep": keep,
            "provider": name,
            "ms": ms,
            "times_fastprune": ms and ours and ms / ours,
            "million_per_s": ms and n / ms / 1e3,
            "share_of_roofline": ms and roofline / ms,
        }
        for name, ms in times.items()
        if name != "read" and not name.startswith("write")
    ]


def table(results: list[dict[str, Any]]) -> str:
    """A row for each cell: our time, and how many times as long the others take."""
    peers = [p for p in dict.fromkeys(r["provider"] for r in results) if p != "fastprune"]
    lines = [
        "| scores | n | keep | fastprune ms | M/s | % of roofline | " + " | ".join(peers) + " |",
        "|---|--:|--:|--:|--:|--:|" + "--:|" * len(peers),
    ]
    cells = {(r["kind"], r["n"], r["keep"]): {} for r in results}
    for r in results:
        cells[r["kind"], r["n"], r["keep"]][r["provider"]] = r
    for (kind, n, keep), cell in cells.items():
        ours = cell["fastprune"]
        if not ours["ms"]:
            continue
        ratios = [f"{cell[p]['times_fastprune']:.2f}" if cell[p]["ms"] else "failed" for p in peers]
        lines.append(
            f"| {kind} | {n:,} | {keep:.0%} | {ours['ms']:.4g} | {ours['million_per_s']:,.0f} | "
            f"{ours['share_of_roofline']:.0%} | " + " | ".join(ratios) + " |"
        )
    return "\n".join(lines)


def summary(results: list[dict[str, Any]]) -> str:
    """The smallest ratios for each n, and the largest one over kinds.

    The columns are the fastest peer, the fastest ascending peer, the fastest peer against one thread, the kinds and the
    roofline. A last line shows the growth with n.
    """
    ms = {(r["kind"], r["n"], r["keep"], r["provider"]): r["ms"] for r in results if r["ms"]}
    cells = list(dict.fromkeys(key[:3] for key in ms))
    ours = ("fastprune", "fastprune, 1 thread")

    def worst(n: int, provider: str, ascending: bool) -> float:
        ratios = []
        for cell in cells:
            peers = [t for key, t in ms.items() if key[:3] == cell and key[3] not in ours]
            if ascending:
                peers = [t for key, t in ms.items() if key[:3] == cell and key[3] not in ours and key[3] in ASCENDING]
            if cell[1] == n and (*cell, provider) in ms:
                ratios.append(min(peers) / ms[(*cell, provider)])
        return min(ratios, default=float("nan"))

    lines = [
        "| n | fastest peer / fastprune | fastest ascending peer / fastprune | fastest peer / one thread | "
        "slowest kind / uniform | least % of roofline |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    for n in dict.fromkeys(cell[1] for cell in cells):
        kinds = max(
            ms[kind, n, keep, "fastprune"] / ms["uniform", n, keep, "fastprune"]
            for kind, size, keep in cells
            if size == n and ("uniform", n, keep, "fastprune") in ms
        )
        roofline = min(r["share_of_roofline"] for r in results if r["n"] == n and r["provider"] == "fastprune")
        lines.append(
            f"| {n:,} | {worst(n, ours[0], False):.2f} | {worst(n, ours[0], True):.2f} | "
            f"{worst(n, ours[1], False):.2f} | {kinds:.2f} | {roofline:.0%} |"
        )
    lines.append("\nThe least over the kinds and shares; for the kinds the largest.")
    few, many = ("uniform", 10**7, 0.5, "fastprune"), ("uniform", 10**8, 0.5, "fastprune")
    if few in ms and many in ms:
        lines.append(f"\n10^8 against ten times 10^7, half kept, uniform: {ms[many] / ms[few] / 10:.2f}.")
    return "\n".join(lines)


def picture(results: list[dict[str, Any]], title: str, path: Path) -> None:
    """Scores a second over n, with a panel for each kind and half of the scores kept."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(KINDS), figsize=(4.2 * len(KINDS), 4), sharey=True)
    for axis, kind in zip(axes, KINDS, strict=True):
        here = [r for r in results if r["kind"] == kind and r["keep"] == 0.5 and r["ms"]]
        for name in dict.fromkeys(r["provider"] for r in here):
            points = [(r["n"], r["million_per_s"]) for r in here if r["provider"] == name]
            ours = name.startswith("fastprune")
            axis.plot(*zip(*points, strict=True), "o-" if ours else "s--", label=name, linewidth=2 if ours else 1)
        axis.set(xscale="log", yscale="log", title=f"{kind}, half kept", xlabel="scores")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("million scores a second")
    figure.suptitle(title)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncols=9, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--max-n", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()

    where = measure.environment(args.device) | {"numpy": np.__version__}
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    results: list[dict[str, Any]] = []
    start = time.perf_counter()
    with Without512() if args.device == "cpu" else nullcontext() as other:
        for n in (n for n in SIZES if n <= args.max_n):
            for kind in KINDS:
                for keep in KEEP:
                    if other is None:
                        times = cuda_cell(kind, n, keep, args.rounds)
                    else:
                        times = cpu_cell(kind, n, keep, args.rounds, other)
                    results += results_of(times, kind, n, keep)
                    print(table(results).splitlines()[-1], flush=True)
                scores_of.cache_clear()
    print(f"{summary(results)}\n{time.perf_counter() - start:.0f} s")

    stem = measure.stem_of(args.out, "selection", args.device)
    run = {"environment": where, "rounds": args.rounds, "results": results}
    sections = [
        f"# Selection, median of {args.rounds} interleaved rounds",
        summary(results),
        f"![scores a second]({stem.name}.png)",
        "Providers' columns: how many times as long as fastprune they take.",
        table(results),
    ]
    machine = f"{where['device']}, {where['threads']} threads"
    measure.write_results(stem, run, sections, lambda path: picture(results, machine, path))


if __name__ == "__main__":
    main()
