"""What each size of step 4 should take on an H100 and an H200, said before it is measured.

    python -m gpu.predict        # writes benchmarks/results/gpu-predictions.json: make gpu-predictions

The time is the larger of two. Memory: the bytes that must move, over the copy bandwidth that other sessions measured
on these machines. Issue: the instructions of the machine code, which this program compiles and disassembles, over
what 132 multiprocessors issue; an exponential takes the place of eight. A kernel of a few microseconds also waits for
its launch, which is not in here.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gpu import sources
from gpu.cases import SPEED, Size

FILE = sources.ROOT / "benchmarks" / "results" / "gpu-predictions.json"
ARCH = 90
# GB/s of a copy, bytes read plus bytes written.
BANDWIDTH = {"H100": 3_000.0, "H200": 4_300.0}
MULTIPROCESSORS, SCHEDULERS, LANES = 132, 4, 32
EXPONENTIAL = 8  # issue slots: a multiprocessor issues 128 instructions a cycle, or 16 exponentials
CLOCK_GHZ = 1.755
SEGMENT_THREADS = 128


@dataclass(frozen=True)
class Kernel:
    """What one launch issues and moves.

    Attributes:
        instructions: of one thread.
        exponentials: of one thread.
        threads: of the launch.
    """

    name: str
    instructions: float
    exponentials: float
    threads: float


def memory_ms(bytes_moved: float, gb_per_s: float) -> float:
    return bytes_moved / gb_per_s / 1e6


def issue_ms(kernels: Sequence[Kernel]) -> float:
    """Milliseconds in which the multiprocessors issue everything, one kernel after the other."""
    slots = MULTIPROCESSORS * SCHEDULERS * LANES * CLOCK_GHZ * 1e6  # of one lane, in a millisecond
    return sum(k.threads * max(k.instructions, EXPONENTIAL * k.exponentials) / slots for k in kernels)


def bytes_moved(task: str, size: Size, scores: int) -> tuple[int, int]:
    """(forward, backward) bytes that a task cannot do without: the logits, and of each row its label and results."""
    logits = size.logits * size.itemsize
    forward = logits + size.rows * (8 + 4 * scores)
    if task == "el2n":
        return forward, 0
    # The loss and three statistics are written, and read again with the row's gradient.
    return forward + size.rows * 16, 2 * logits + size.rows * (8 + 12 + 4)


def predict(task: str, provider: str, size: Size, scores: int, kernels: Sequence[Kernel]) -> dict[str, Any]:
    """One line of the table; the backward pass begins when the forward pass has ended."""
    moved = bytes_moved(task, size, scores)
    passes = [[k for k in kernels if ("gradient" in k.name) == backward] for backward in (False, True)]
    issue = [issue_ms(some) for some in passes]
    memory = {name: [memory_ms(part, rate) for part in moved] for name, rate in BANDWIDTH.items()}
    return {
        "task": task,
        "provider": provider,
        "rows": size.rows,
        "classes": size.classes,
        "dtype": size.dtype,
        "bytes": sum(moved),
        "instructions_per_logit": round(sum(k.instructions * k.threads for k in kernels) / size.logits, 2),
        "launches": len(kernels),
        "issue_ms": round(sum(issue), 5),
        "ms": {name: round(sum(map(max, ms, issue)), 5) for name, ms in memory.items()},
        "bound": {name: "memory" if sum(ms) >= sum(issue) else "issue" for name, ms in memory.items()},
    }


# --- reading the machine code -----------------------------------------------------------------


def kernel_from_code(variant: dict[str, Any], grid: tuple[int, ...], size: Size, folder: Path) -> Kernel:
    """The kernel of a launch, from its machine code.

    Code without a loop is counted whole, which is a little too much: some of it is for the ends of rows. In the long
    rows' kernel every logit goes once through the main loop, and the rest, which holds the code for second readings,
    is counted once a thread.
    """
    from helpers import ahead_of_time

    from gpu.compile_variants import compiled

    code = ahead_of_time.disassemble(compiled(variant, ARCH), folder)
    programs = 1
    for count in grid:
        programs *= count
    threads = programs * variant["options"]["num_warps"] * LANES
    instructions = float(sum(code.operations.values()))
    exponentials = float(code.operations["MUFU.EX2"])
    if variant["kernel"] == "long_rows_kernel":
        a_turn = sum("MUFU.EX2" in line for line in code.loop)  # logits of a thread
        turns = size.logits / threads / a_turn
        instructions += (turns - 1) * len(code.loop)
        exponentials += (turns - 1) * a_turn
    return Kernel(variant["kernel"], instructions, exponentials, threads)


def kernels_of(call: Callable[[], None], size: Size, folder: Path) -> list[Kernel]:
    """The kernels that a call of the launchers launches."""
    from gpu.variants import noted

    with noted(ARCH) as found:
        call()
        launched = list(found)
    return [kernel_from_code(variant, variant["grid"], size, folder) for variant in launched]


def all_predictions() -> dict[str, Any]:
    """The whole file."""
    import triton

    from fastprune.scores.definition import METRICS
    from gpu.variants import loss_step, score_rows

    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in SPEED:
            calls: tuple[tuple[str, str, int, Callable[[], None]], ...] = (
                ("el2n", "fastprune", 1, partial(score_rows, size, ("el2n",))),
                ("el2n", "fastprune all six", 6, partial(score_rows, size, METRICS)),
                ("loss step", "fastprune with el2n", 1, partial(loss_step, size, ("el2n",))),
            )
            for task, provider, scores, call in calls:
                lines.append(predict(task, provider, size, scores, kernels_of(call, size, folder)))
    return {
        "kernels": sources.digest(),
        "triton": triton.__version__,
        "arch": ARCH,
        "clock_ghz": CLOCK_GHZ,
        "copy_gb_per_s": BANDWIDTH,
        "predictions": lines,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FILE)
    args = parser.parse_args()
    args.out.write_text(json.dumps(all_predictions(), indent=1) + "\n")
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
