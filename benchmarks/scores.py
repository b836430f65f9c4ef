"""The scores and the loss against PyTorch: milliseconds, GB/s, share of the roofline, peak memory.

    python benchmarks/scores.py                    # this machine's CPU, about 15 minutes
    python benchmarks/scores.py --device cuda
    python benchmarks/scores.py --quick            # fewer sizes

GB/s counts the bytes that the task cannot avoid, so providers and roofline compare alike. They are one read of the
logits. A training step also needs a second read, and one write of the gradient. The roofline on the CPU is a plain sum
of the same logits, timed in the same rounds. On CUDA it is a large copy. `moves` is what a provider moves by its
formula (providers.py).

Writes scores-DEVICE.json, .md and .png to --out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import torch
from providers import Provider, el2n_providers, loss_providers, score_providers

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
CLASSES = (2, 7, 50, 150, 1000, 32_000, 50_257, 128_256)
QUICK = {"cpu": (7, 150, 1000, 32_000), "cuda": (7, 1000, 50_257, 128_256)}
# Compiling for a GPU takes most of the time there.
QUICK_DTYPES = {"cpu": ("fp32", "bf16"), "cuda": ("bf16",)}
TASKS = ("el2n", "other scores", "training step")
MINIMUM_BYTES = {"el2n": 1, "other scores": 1, "training step": 3}  # times the bytes of a logit


def rows_for(classes: int, device: str, dtype: torch.dtype) -> int:
    """100,000 rows of a small classifier. From 1,000 classes on, enough rows that no cache holds the logits.

    Those are 128 MiB on a CPU and 1 GiB on a GPU.
    """
    logits = (2**30 if device == "cuda" else 2**27) // dtype.itemsize
    if classes < 1000:
        return 2**21 if device == "cuda" else 100_000
    return logits // classes


def providers_of(task: str, device: str) -> list[Provider]:
    if task == "el2n":
        return el2n_providers()
    return score_providers() if task == "other scores" else loss_providers(device)


def benchmark(task: str, classes: int, rows: int, dtype_name: str, device: str, rounds: int) -> list[dict[str, Any]]:
    dtype = DTYPES[dtype_name]
    generator = torch.Generator(device).manual_seed(0)
    logits = torch.empty(rows, classes, dtype=dtype, device=device).normal_(0, 3, generator=generator)
    labels = torch.randint(classes, (rows,), device=device, generator=generator)
    logits.requires_grad_(task == "training step")
    torch.compiler.reset()  # a fresh specialisation for each shape
    providers = providers_of(task, device)

    def bound(provider: Provider) -> Callable[[], Any]:
        return lambda: provider.call(logits, labels)

    calls = {p.name: bound(p) for p in providers}
    read = logits.detach()
    if device == "cpu":
        calls["read"] = read.sum
    # A call of microseconds is timed 200 times in a row, as in a loop.
    times = measure.interleaved(calls, rounds, device, repeat=200 if rows == 32 else 1)
    useful = MINIMUM_BYTES[task] * read.numel() * dtype.itemsize
    roofline = measure.copy_bandwidth(rounds) if device == "cuda" else None
    if device == "cpu" and times["read"]:
        roofline = read.numel() * dtype.itemsize / times["read"] / 1e6
    ours = times[providers[0].name]
    results = []
    for p in providers:
        ms = times[p.name]
        results.append(
            {
                "task": task,
                "classes": classes,
                "rows": rows,
                "dtype": dtype_name,
                "provider": p.name,
                "ms": ms,
                "times_fastprune": ms and ours and ms / ours,
                "gb_per_s": ms and useful / ms / 1e6,
                "roofline_gb_per_s": roofline,
                "share_of_roofline": ms and roofline and useful / ms / 1e6 / roofline,
                "moves_bytes_per_logit": p.bytes(dtype.itemsize),
                "peak_extra_mb": ms and peak_mb(calls[p.name], read, device),
            }
        )
    return results


def peak_mb(call: Callable[[], Any], logits: torch.Tensor, device: str) -> float | None:
    """Megabytes. None on a CPU for logits so small that a temporary of their size would not show."""
    if device == "cpu" and logits.numel() * logits.element_size() < 2**25:
        return None
    peak = measure.peak_memory(call, device)
    return None if peak is None else peak / 1e6


COLUMNS = (
    "task",
    "C",
    "rows",
    "dtype",
    "provider",
    "ms",
    "time / first",
    "GB/s",
    "% of roofline",
    "moves B",
    "peak MB",
)


def table(results: list[dict[str, Any]], header: bool = True) -> str:
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|--:|--:|---|---|--:|--:|--:|--:|--:|--:|"] if header else []
    for r in results:
        case = f"{r['task']} | {r['classes']} | {r['rows']} | {r['dtype']} | {r['provider']}"
        numbers = "failed | – | – | – | – | –"
        if r["ms"]:
            share = f"{100 * r['share_of_roofline']:.0f}" if r["share_of_roofline"] else "–"
            peak = "–" if r["peak_extra_mb"] is None else f"{r['peak_extra_mb']:.1f}"
            numbers = (
                f"{r['ms']:.3f} | {r['times_fastprune'] or 0:.2f} | {r['gb_per_s']:.1f} | {share} | "
                f"{r['moves_bytes_per_logit']} | {peak}"
            )
        lines.append(f"| {case} | {numbers} |")
    return "\n".join(lines)


def picture(results: list[dict[str, Any]], title: str, path: Path) -> None:
    """Share of the roofline over the number of classes, with a panel for each task and dtype."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    tasks = [task for task in TASKS if any(r["task"] == task for r in results)]
    dtypes = [dtype for dtype in DTYPES if any(r["dtype"] == dtype for r in results)]
    figure, axes = plt.subplots(
        len(tasks), len(dtypes), figsize=(6.5 * len(dtypes), 3.6 * len(tasks)), squeeze=False, sharex=True
    )
    for row, task in zip(axes, tasks, strict=True):
        for axis, dtype in zip(row, dtypes, strict=True):
            here = [r for r in results if r["task"] == task and r["dtype"] == dtype and r["share_of_roofline"]]
            for name in dict.fromkeys(r["provider"] for r in here):
                points = [(r["classes"], 100 * r["share_of_roofline"]) for r in here if r["provider"] == name]
                ours = name.startswith("fastprune")
                axis.plot(*zip(*points, strict=True), "o-" if ours else "s--", label=name, linewidth=2 if ours else 1)
            axis.set(xscale="log", yscale="log", title=f"{task}, {dtype}")
            axis.axhline(100, color="black", linewidth=0.8)
            axis.grid(alpha=0.3)
            axis.legend(fontsize=7)
    for axis in axes[-1]:
        axis.set_xlabel("classes")
    for row in axes:
        row[0].set_ylabel("% of the roofline")
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="half the sizes, 5 rounds, on CUDA bf16 alone")
    parser.add_argument("--task", choices=TASKS, action="append", help="only this one (can be repeated)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()

    rounds = 5 if args.quick else 11
    where = measure.environment(args.device)
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    results: list[dict[str, Any]] = []
    for task in args.task or TASKS:
        for classes in QUICK[args.device] if args.quick else CLASSES:
            for dtype_name in QUICK_DTYPES[args.device] if args.quick else DTYPES:
                rows = rows_for(classes, args.device, DTYPES[dtype_name])
                some = benchmark(task, classes, rows, dtype_name, args.device, rounds)
                print(table(some, header=not results), flush=True)
                results += some
        if task != "other scores":  # a classifier's batch, where the calls themselves are the cost
            some = benchmark(task, 7, 32, "fp32", args.device, rounds)
            print(table(some, header=False), flush=True)
            results += some

    stem = measure.stem_of(args.out, "scores", args.device)
    run = {"environment": where, "rounds": rounds, "quick": args.quick, "results": results}
    title = f"# Scores and loss, median of {rounds} interleaved rounds"
    sections = [title, f"![share of the roofline]({stem.name}.png)", table(results)]
    large = [r for r in results if r["rows"] > 32]
    machine = f"{where['device']}, {where['threads']} threads"
    measure.write_results(stem, run, sections, lambda path: picture(large, machine, path))


if __name__ == "__main__":
    main()
