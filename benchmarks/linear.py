"""A linear head without logits, against PyTorch's ways: ratios of time, and memory.

    python benchmarks/linear.py                # about 4 minutes on two cores
    python benchmarks/linear.py --quick        # one size of each
    python benchmarks/linear.py --device cuda

Two tasks. "scores" is `linear_score`, against the bare matrix product, which any way to the scores must make. "step" is
`linear_cross_entropy` with scores, forward and backward, against `F.linear` + `F.cross_entropy` and against
`F.linear_cross_entropy` in its best chunking. Both of PyTorch's give a loss alone.

Predictions, written before the first measurement. Scores: one exponential a logit from the cache, 0.3 ns on a core,
beside 2 H operations: at H = 2,048 in bfloat16 (4 ns at 1 TFLOP/s) 8 % more than the product, at H = 768 in float32
(20 ns) 2 %. Step, float32: the same three products as PyTorch's, and 20 more passes over the head's gradient (30 ms of
some 2 s) in place of four passes over the logits: 1.0. Step, bfloat16: four products in place of three, less those four
passes: 1.2 to 1.3.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import torch
import torch.nn.functional as F
from torch import Tensor

import fastprune

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# (rows, hidden, classes, dtype)
SCORES = ((2048, 768, 32_000, "fp32"), (2048, 2048, 32_000, "bf16"))
STEPS = ((2048, 768, 32_000, "fp32"), (2048, 2048, 32_000, "bf16"))
GPU = ((8192, 4096, 131_072, "bf16"),)
METRICS = ("el2n", "loss")


def inputs(rows: int, hidden: int, classes: int, dtype: str, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states, a head and labels."""
    generator = torch.Generator(device).manual_seed(0)

    def normal(*shape: int, scale: float) -> Tensor:
        return torch.empty(shape, device=device).normal_(0, scale, generator=generator).to(DTYPES[dtype])

    states, head = normal(rows, hidden, scale=1.0), normal(classes, hidden, scale=2 * hidden**-0.5)
    return states, head, torch.randint(classes, (rows,), device=device, generator=generator)


def scoring_calls(hidden: Tensor, head: Tensor, labels: Tensor) -> dict[str, Callable[[], Any]]:
    """Every provider of the scores, ours first."""
    logits = hidden.new_empty(len(hidden), len(head))
    return {
        "fastprune.linear_score": lambda: fastprune.linear_score(hidden, head, labels, METRICS),
        "bare product": lambda: torch.mm(hidden, head.t(), out=logits),
        "F.linear + fastprune.score": lambda: fastprune.score(F.linear(hidden, head), labels, METRICS),
    }


def step_calls(
    hidden: Tensor, head: Tensor, labels: Tensor, reduction: str, everything: bool = False
) -> dict[str, Callable[[], Any]]:
    """Every provider of a training step, ours first."""
    hidden, head = hidden.clone().requires_grad_(), head.clone().requires_grad_()

    def step(loss_of: Callable[[], Tensor]) -> Callable[[], None]:
        def run() -> None:
            hidden.grad = head.grad = None
            loss_of().sum().backward()

        return run

    def ours() -> Tensor:
        return fastprune.linear_cross_entropy(hidden, head, labels, reduction=reduction, return_scores=METRICS)[0]

    calls = {
        "fastprune.linear_cross_entropy": step(ours),
        "F.linear + F.cross_entropy": step(
            lambda: F.cross_entropy(F.linear(hidden, head), labels, reduction=reduction)
        ),
    }
    if hasattr(F, "linear_cross_entropy"):
        for name, options in chunkings(everything).items():
            calls[f"F.linear_cross_entropy, {name}"] = step(
                lambda options=options: F.linear_cross_entropy(
                    hidden, head, labels, reduction=reduction, options=options
                )
            )
    return calls


def chunkings(everything: bool = False) -> dict[str, Any]:
    """The settings of torch's own that are worth a try. The first was never slower than the others, beyond noise."""
    from torch.nn.modules.linear_cross_entropy_options import LinearCrossEntropyOptions as Options

    found = {"512 rows, compact": Options(batch_chunk_size=512, acc_policy="compact")}
    if everything:
        found |= {"automatic": Options(), "512 rows": Options(batch_chunk_size=512)}
    return found


def benchmark(
    task: str, size: tuple[int, int, int, str], device: str, rounds: int, everything: bool = False
) -> list[dict[str, Any]]:
    """The rows of results of one task at one size."""
    hidden, head, labels = inputs(*size, device)
    if task == "scores":
        calls = scoring_calls(hidden, head, labels)
    else:
        calls = step_calls(hidden, head, labels, task.removeprefix("step, "), everything)
    times = measure.interleaved(calls, rounds, device)
    ours = times["fastprune.linear_score" if task == "scores" else "fastprune.linear_cross_entropy"]
    return [
        {
            "task": task,
            "rows": size[0],
            "hidden": size[1],
            "classes": size[2],
            "dtype": size[3],
            "provider": name,
            "ms": ms,
            "fastprune_over_this": ours / ms if ours and ms else None,
            "peak_bytes": measure.peak_memory(calls[name], device) if ms else None,
        }
        for name, ms in times.items()
    ]


def markdown(results: list[dict[str, Any]]) -> str:
    """The results as a table."""
    lines = [
        "| task | rows x hidden x classes | dtype | provider | ms | fastprune / this | peak MB |",
        "|---|---|---|---|--:|--:|--:|",
    ]
    for r in results:
        size = f"{r['rows']:,} x {r['hidden']:,} x {r['classes']:,}"
        ms, ratio = (("" if x is None else f"{x:.{n}f}") for x, n in ((r["ms"], 1), (r["fastprune_over_this"], 2)))
        peak = "" if r["peak_bytes"] is None else f"{r['peak_bytes'] / 1e6:.0f}"
        lines.append(f"| {r['task']} | {size} | {r['dtype']} | {r['provider']} | {ms} | {ratio} | {peak} |")
    return "\n".join(lines) + "\n"


def picture(results: list[dict[str, Any]], path: Path) -> None:
    """The time of every provider as a multiple of ours."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [r for r in results if r["fastprune_over_this"] and not r["provider"].startswith("fastprune.")]
    names = [
        f"{r['task']}, {r['rows']:,} x {r['hidden']:,} x {r['classes']:,} {r['dtype']}: {r['provider']}" for r in shown
    ]
    figure, axes = plt.subplots(figsize=(10, 0.4 * len(shown) + 1.5))
    axes.barh(names, [r["fastprune_over_this"] for r in shown], color="#3b6ea5")
    axes.axvline(1.0, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel("time of fastprune / time of this provider (below 1: fastprune is faster)")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=0, help="of PyTorch; by default all cores")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--all-chunkings", action="store_true", help="of F.linear_cross_entropy; slow in bf16")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    sizes = {"scores": SCORES, "step, mean": STEPS, "step, none": STEPS[:1] + STEPS[-1:]}
    if args.device == "cuda":
        sizes = {"scores": GPU, "step, mean": GPU}
    results = []
    for task, all_sizes in sizes.items():
        for size in all_sizes[:1] if args.quick else all_sizes:
            found = benchmark(task, size, args.device, args.rounds, args.all_chunkings)
            print(markdown(found), flush=True)
            results += found
    stem = measure.stem_of(args.out, "linear", args.device)
    run = {"environment": measure.environment(args.device), "rounds": args.rounds, "results": results}
    title = (
        "# A linear head without logits\n\nMade by `python benchmarks/linear.py`. Each ratio is of medians of one run."
    )
    measure.write_results(stem, run, [title, markdown(results)], lambda path: picture(results, path))


if __name__ == "__main__":
    main()
