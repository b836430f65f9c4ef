"""What the engine adds to a training run: microseconds a batch, milliseconds a cycle, bytes an example.

    python benchmarks/engine.py                  # to 10^6 examples
    python benchmarks/engine.py --quick          # 10^6 examples, few rounds
    python benchmarks/engine.py --device cuda    # the steps of a batch, none of which may synchronise

- A batch of 32: `observe` and the history's update inside it, `weights` with the weighted mean, and the sampler. The
  sampler's time is its share of a whole iteration over its batches. The goal on the CPU is 200 us for observe, weights
  and sampler together.
- A cycle: `enter` (selection, kept set, churn, threshold, weights) and the first batch from the sampler, with half of
  the examples kept. The goal is 50 ms for 10^6 examples.
- Memory: bytes an example in the tensors of the statistics.
- Checkpoints: `state_dict`, `load_state_dict` and the bytes that torch.save writes.

Peers are DataCull, where it is installed, and InfoBatch's published procedure. DataCull's logger writes a line of JSON
for each example. Its RCAP reads the lines back and draws. InfoBatch's procedure is written here. In a step it indexes
the scores, and weighs and averages the losses. In a cycle it cuts at the mean, draws without replacement and shuffles.

Writes engine-DEVICE.json, .md and .png to --out.
"""

from __future__ import annotations

import argparse
import io
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch
from selection import scores_of
from torch import Tensor
from torch.utils.data import BatchSampler, RandomSampler

from fastprune.pruning import DynamicPruner, get_method, method_names
from fastprune.pruning.schedule import epoch_pieces

try:
    from datacull.data import DCDataset
    from datacull.logger import DCLogger
    from datacull.methods.RCAP import RCAPDataLoader, RCAPImportance
except ImportError:  # the tables then have no DataCull
    DCLogger = None

SIZES = (10_000, 100_000, 1_000_000)
BATCH, CLASSES, KEEP, CYCLES = 32, 10, 0.5, 200
GOAL_BATCH, GOAL_CYCLE = 200, 50  # in us, and in ms for the largest size
INFOBATCH, DATACULL = "InfoBatch's procedure", "DataCull"
PATIENCE = 10.0  # seconds for a call
# The methods that record in the training step, then some that do not.
RECORDING = [name for name in method_names() if name != "static" and get_method(name).observes]
OTHERS = ("random", "rs2", "full")

Call = Callable[[], Any]


@cache
def scores(metric: str, n: int) -> Tensor:
    """(n,) fp32 scores of a classifier that is sure of most examples. For "probabilities" they are (n, CLASSES)."""
    if metric == "probabilities":
        return (torch.randn(n, CLASSES, generator=torch.Generator().manual_seed(1)) * 2).softmax(dim=1)
    el2n = scores_of("el2n", n)
    return {"correct": (el2n < 0.7).float(), "loss": -torch.log1p(-el2n / 1.5)}.get(metric, el2n)


def begun(name: str, n: int) -> DynamicPruner:
    """A pruner in its warm-up."""
    pruner = DynamicPruner(n, keep_fraction=KEEP, warmup_epochs=2, method=name, final_share=0.0)
    pruner.driver.plan(epoch_pieces(pruner.driver.phases(2 + CYCLES)))
    pruner.driver.enter(0)
    return pruner


def warmed_up(name: str, n: int) -> DynamicPruner:
    """A pruner that has scored every example twice and is ready for its first cycle, piece number 2."""
    pruner = begun(name, n)
    generator = torch.Generator().manual_seed(2)
    for epoch in range(2):
        for index in torch.randperm(n, generator=generator).split(100_000):
            fainter = 1.0 - 0.1 * torch.rand((), generator=generator)
            pruner.history.update(index, {m: scores(m, n)[index] * fainter for m in pruner.method.reads}, epoch)
    return pruner


# --- a batch -----------------------------------------------------------------------------------


def batches(n: int, metrics: tuple[str, ...], device: str) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """(index on the host, scores on the device) of batches of random examples, without end."""
    generator = torch.Generator().manual_seed(3)
    index = torch.randperm(n, generator=generator)[: 100 * BATCH].split(BATCH)
    return itertools.cycle([(i, {m: scores(m, n)[i].to(device) for m in metrics}) for i in index])


def step_calls(name: str, n: int, device: str) -> dict[str, Call]:
    """The calls of a training step with one method."""
    method = get_method(name)
    pruner, history = begun(name, n), method.new_history(n)
    observed, updated, weighted = (batches(n, method.reads, device) for _ in range(3))
    calls: dict[str, Call] = {
        "observe": lambda: pruner.observe(*next(observed)),
        "update": lambda: history.update(*next(updated), 0),
    }
    if method.weighted:
        cycle = warmed_up(name, n)
        cycle.driver.enter(2)

        def weigh() -> Tensor:
            index, by_metric = next(weighted)
            return cycle.mean_loss(by_metric["loss"], index)

        calls["weights"] = weigh
    return calls


def infobatch_step(n: int, device: str) -> Call:
    """Note a batch's losses, weigh them and average them."""
    table, weights, steps = torch.full((n,), 3.0), torch.ones(n), batches(n, ("loss",), device)

    def call() -> Tensor:
        index, by_metric = next(steps)
        losses = by_metric["loss"]
        table[index] = losses.detach().cpu()
        return (losses * weights[index].to(losses.device)).mean()

    return call


def datacull_step(n: int, metric: str, folder: Path) -> Call:
    """A call of DataCull's logger."""
    logger, steps = DCLogger(f"{folder}/{metric}"), batches(n, (metric,), "cpu")

    def call() -> None:
        index, by_metric = next(steps)
        logger.log_metric(0, index, by_metric[metric])

    return call


@contextmanager
def without_synchronisation(device: str) -> Iterator[None]:
    """Make a call that waits for the device an error on CUDA."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
            torch.cuda.synchronize()


def clock(call: Call, repeat: int, device: str = "cpu") -> Callable[[], float]:
    """Microseconds of a call by the host's clock, the mean of `repeat` calls in a row."""

    def run() -> float:
        with without_synchronisation(device):
            start = time.perf_counter()
            for _ in range(repeat):
                call()
            return (time.perf_counter() - start) * 1e6 / repeat

    return run


def iteration(sampler: BatchSampler) -> Callable[[], float]:
    """Microseconds a batch, of a whole iteration."""

    def run() -> float:
        start = time.perf_counter()
        return sum(1 for _ in sampler) and (time.perf_counter() - start) * 1e6 / len(sampler)

    return run


def batch_rows(n: int, rounds: int, device: str) -> list[dict[str, Any]]:
    """Microseconds of every call in a batch."""
    pruner = warmed_up("random", n)
    pruner.driver.enter(2)
    samplers = {"sampler": pruner.sampler, "torch's RandomSampler": RandomSampler(range(round(KEEP * n)))}
    drawn = {name: iteration(BatchSampler(s, BATCH, drop_last=False)) for name, s in samplers.items()}
    share = measure.medians(drawn, max(3, rounds // 2))
    with tempfile.TemporaryDirectory() as folder:
        timed = {
            (name, call_name): clock(call, 500 if device == "cpu" else 100, device)
            for name in RECORDING
            for call_name, call in step_calls(name, n, device).items()
        }
        timed[INFOBATCH, "observe and weights"] = clock(infobatch_step(n, device), 500)
        if DCLogger is not None and device == "cpu":
            timed[f"{DATACULL}'s logger", "observe"] = clock(datacull_step(n, "loss", Path(folder)), 10)
            wide = f"{DATACULL}'s logger, {CLASSES} numbers"
            timed[wide, "observe"] = clock(datacull_step(n, "probabilities", Path(folder)), 10)
        times = measure.medians(timed, rounds)
    rows = [{"n": n, "method": name, "call": call, "us": us} for (name, call), us in times.items()]
    rows += [{"n": n, "method": name, "call": "sampler", "us": us} for name, us in share.items() if name != "sampler"]
    for name in RECORDING:
        parts = [times.get((name, call)) for call in ("observe", "weights") if (name, call) in times]
        rows.append({"n": n, "method": name, "call": "sampler", "us": share["sampler"]})
        rows.append({"n": n, "method": name, "call": "sum", "us": sum(parts) + share["sampler"]})
    return rows


# --- a cycle -----------------------------------------------------------------------------------


def next_cycle(pruner: DynamicPruner) -> Call:
    """Start the next cycle, read its first batch and record it. Without the record nothing would change for the next
    cycle.
    """
    numbers, metrics = itertools.count(2), pruner.method.reads

    def call() -> None:
        pruner.driver.enter(next(numbers))
        index = torch.tensor(list(itertools.islice(iter(pruner.sampler), BATCH)))
        pruner.history.update(index, {metric: scores(metric, pruner.n)[index] for metric in metrics}, 1)

    return call


def infobatch_cycle(n: int) -> Call:
    """Cut at the mean, draw from the examples below, weigh and shuffle. It uses arrays, and gives the first batch as a
    list.
    """
    table, generator = scores("loss", n).numpy(), np.random.default_rng(0)
    weights = np.ones(n, dtype=np.float32)

    def call() -> list[int]:
        below = table < table.mean()
        learned, others = np.flatnonzero(below), np.flatnonzero(~below)
        drawn = generator.choice(learned, int(KEEP * len(learned)), replace=False)
        weights[:] = 1.0
        weights[drawn] = 1.0 / KEEP
        kept = np.concatenate([others, drawn])
        generator.shuffle(kept)
        return kept[:BATCH].tolist()

    return call


class Labelled(torch.utils.data.Dataset):
    """The part of a data set that DataCull reads."""

    def __init__(self, targets: list[int]) -> None:
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)


def datacull_cycle(n: int, folder: Path) -> Callable[[], float]:
    """Milliseconds of DataCull's RCAP: read the epoch's lines back, importance by class, draw. Writing them is not
    timed.
    """
    labels = torch.randint(CLASSES, (n,), generator=torch.Generator().manual_seed(4)).tolist()
    data = DCDataset(Labelled(labels))
    importance = RCAPImportance(data, DCLogger(f"{folder}/"), beta=1.0)
    loader = RCAPDataLoader(data, KEEP, batch_size=BATCH)
    losses = scores("loss", n).tolist()
    epochs = itertools.count(-1)

    def run() -> float:
        epoch = next(epochs)
        lines = (f'{{"{i}":{loss}}}\n' for i, loss in enumerate(losses))
        (folder / f"epoch{epoch}.jsonl").write_text("".join(lines))
        start = time.perf_counter()
        loader.resample(importance.compute_importance())
        next(iter(loader.batch_sampler))
        return (time.perf_counter() - start) * 1e3

    return run


def cycle_rows(n: int, rounds: int, peers: bool) -> list[dict[str, Any]]:
    """Milliseconds of a cycle, and the bytes of the statistics."""
    pruners = {name: warmed_up(name, n) for name in (*RECORDING, *OTHERS)}
    timed = {name: milliseconds(next_cycle(pruner)) for name, pruner in pruners.items()}
    timed[INFOBATCH] = milliseconds(infobatch_cycle(n))
    with tempfile.TemporaryDirectory() as folder:
        if peers and DCLogger is not None:
            timed[f"{DATACULL}'s RCAP"] = datacull_cycle(n, Path(folder))
        times = measure.medians(timed, rounds, PATIENCE)
    rows: list[dict[str, Any]] = []
    for name, ms in times.items():
        row: dict[str, Any] = {"n": n, "method": name, "cycle ms": ms}
        if name in pruners:
            history = pruners[name].history
            tensors = [history.visits, history.scored_epoch]
            tensors += [tensor for metric in history.reads for tensor in history.state(metric).values()]
            row["bytes an example"] = sum(tensor.nbytes for tensor in tensors) / n
        rows.append(row)
    return rows


def state_rows(n: int, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds and bytes of a checkpoint in the first cycle."""
    rows = []
    for name in (*RECORDING, *OTHERS):
        pruner, other = warmed_up(name, n), begun(name, n)
        pruner.driver.enter(2)
        state = pruner.state_dict()
        file = io.BytesIO()
        torch.save(state, file)
        timed = {
            "state_dict ms": milliseconds(pruner.state_dict),
            "load ms": milliseconds(lambda other=other, state=state: other.load_state_dict(state)),
        }
        size = file.tell() / n
        rows.append({"n": n, "method": name, **measure.medians(timed, rounds), "file bytes an example": size})
    return rows


def milliseconds(call: Call) -> Callable[[], float]:
    """A function that returns the milliseconds of one call."""
    return lambda: clock(call, 1)() / 1e3


# --- results -----------------------------------------------------------------------------------


def batch_table(rows: list[dict[str, Any]]) -> str:
    """Microseconds a batch, with a line for each method. The largest size has all calls, the others have observe."""
    sizes = sorted({row["n"] for row in rows})
    us = {(row["n"], row["method"], row["call"]): row["us"] for row in rows}
    calls = ("update", "weights", "sampler", "sum", "observe and weights")
    columns = [(n, "observe") for n in sizes] + [(sizes[-1], call) for call in calls]
    lines = [
        "| us a batch of 32 | " + " | ".join(f"{call}, n = {n:,}" for n, call in columns) + " |",
        "|---|" + "--:|" * len(columns),
    ]
    for method in dict.fromkeys(row["method"] for row in rows):
        cells = [us.get((n, method, call)) for n, call in columns]
        lines.append(f"| {method} | " + " | ".join("" if c is None else f"{c:.1f}" for c in cells) + " |")
    return "\n".join(lines)


def cycle_table(rows: list[dict[str, Any]]) -> str:
    """A line for each method."""
    columns = [key for key in dict.fromkeys(k for row in rows for k in row) if key not in ("n", "method")]
    lines = [f"| n = {rows[0]['n']:,} | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns)]
    for row in rows:
        cells = ["" if row.get(c) is None else f"{row[c]:.1f}" for c in columns]
        lines.append(f"| {row['method']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(batch: list[dict[str, Any]], cycle: list[dict[str, Any]]) -> str:
    """The slowest method against each goal."""
    n = max(row["n"] for row in batch)
    worst = max((row for row in batch if row["call"] == "sum" and row["n"] == n), key=lambda row: row["us"])
    lines = [f"Slowest batch: {worst['method']}, {worst['us']:.0f} us (goal {GOAL_BATCH})."]
    if cycle:
        ours = [row for row in cycle if "bytes an example" in row]
        slow = sorted((r for r in ours if r["cycle ms"] > GOAL_CYCLE), key=lambda r: -r["cycle ms"])
        late = ", ".join(f"{row['method']} {row['cycle ms']:.0f} ms" for row in slow) or "none"
        lines.append(f"Cycles over the goal of {GOAL_CYCLE} ms: {late}.")
    return " ".join(lines)


def picture(batch: list[dict[str, Any]], cycle: list[dict[str, Any]], title: str, path: Path) -> None:
    """Bars of a batch's microseconds and a cycle's milliseconds, with the goals as lines."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    n = max(row["n"] for row in batch)
    recorded = {r["method"]: r["us"] for r in batch if r["n"] == n and r["call"].startswith("observe")}
    panels = [(f"recording a batch of {BATCH}, us", recorded, GOAL_BATCH)]
    panels.append(("starting a cycle, ms", {r["method"]: r["cycle ms"] for r in cycle}, GOAL_CYCLE))
    panels = [panel for panel in panels if panel[1]]
    figure, axes = plt.subplots(1, len(panels), figsize=(6.5 * len(panels), 6), squeeze=False)
    for axis, (label, bars, goal) in zip(axes[0], panels, strict=True):
        colors = ["tab:orange" if name.startswith((INFOBATCH, DATACULL)) else "tab:blue" for name in bars]
        axis.barh(list(bars), list(bars.values()), color=colors)
        axis.axvline(goal, color="tab:red", linestyle="--", label=f"goal {goal}")
        axis.set(xscale="log", xlabel=f"{label}; {n:,} examples")
        axis.invert_yaxis()
        axis.grid(alpha=0.3, axis="x")
        axis.legend(loc="lower right")
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quick", action="store_true", help="10^6 examples only, 3 rounds, no DataCull cycle")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device: skipped")
        return

    where = measure.environment(args.device) | {"numpy": np.__version__, "datacull": measure.version("datacull")}
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    rounds, sizes = (3, SIZES[-1:]) if args.quick else (args.rounds, SIZES)
    start = time.perf_counter()
    batch = [row for n in sizes for row in batch_rows(n, rounds, args.device)]
    print(batch_table(batch), flush=True)
    cycle, state = [], []
    if args.device == "cpu":
        cycle = cycle_rows(sizes[-1], rounds, peers=not args.quick)
        print(cycle_table(cycle), flush=True)
        state = state_rows(sizes[-1], min(rounds, 5))
        print(cycle_table(state))
    print(f"{summary(batch, cycle)}\n{time.perf_counter() - start:.0f} s")

    stem = measure.stem_of(args.out, "engine", args.device)
    run = {"environment": where, "rounds": rounds, "batch": batch, "cycle": cycle, "state": state}
    sections = [
        f"# The engine, median of {rounds} interleaved rounds",
        summary(batch, cycle),
        f"![a batch and a cycle]({stem.name}.png)",
        "## A batch",
        batch_table(batch),
    ]
    if args.device == "cpu":
        sections += ["## A cycle: selection, kept set, weights, and the first batch", cycle_table(cycle)]
        sections += ["## A checkpoint", cycle_table(state)]
    machine = f"{where['device']}, {where['threads']} threads"
    measure.write_results(stem, run, sections, lambda path: picture(batch, cycle, machine, path))


if __name__ == "__main__":
    main()
