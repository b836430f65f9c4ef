"""One step of a call, in this process: `python -m gpu.step NAME --device DEVICE --results FILE`.

A step is a module of `gpu.steps` with a function `run(context)`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu import records

# Steps that must run before the extension is built, or where Triton is not imported in this process.
WITHOUT_KERNELS = ("machine", "build", "tests", "counters")


@dataclass
class Context:
    """What a step is given.

    Attributes:
        step: its name.
        device: "cuda", or "cpu" for a rehearsal, which takes toy sizes.
        results: the results file.
        seconds: the step is killed after this many seconds.
    """

    step: str
    device: str
    results: Path
    seconds: float = float("inf")
    began: float = field(default_factory=time.monotonic)

    @property
    def rehearsal(self) -> bool:
        return self.device == "cpu"

    @property
    def left(self) -> float:
        """Seconds that the step still has."""
        return self.seconds - (time.monotonic() - self.began)

    def record(self, kind: str, **fields: Any) -> None:
        """Append a result."""
        records.append(self.results, kind, step=self.step, **fields)

    def read(self) -> list[records.Record]:
        """Every result of the call so far."""
        return records.read(self.results)


def count_compilations(context: Context) -> Callable[[], None]:
    """Notes every kernel that Triton compiles in this process; the function returned records them.

    On the GPU machine the build step should have compiled them all. What is named here was missed.
    """
    import triton

    missed: list[str] = []

    def listen(*, src: Any, cache_hit: bool, **_: Any) -> None:
        if not cache_hit:
            missed.append(src.name)

    if not hasattr(triton, "knobs"):  # before Triton 3.4
        return lambda: None
    triton.knobs.compilation.listener = listen
    return lambda: context.record("compiled in a step", kernels=missed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--device", required=True)
    parser.add_argument("--results", type=Path, required=True)
    args = parser.parse_args()
    context = Context(args.name, args.device, args.results, float(os.environ.get("GPU_STEP_SECONDS", "inf")))
    finish: Callable[[], None] = lambda: None  # noqa: E731
    if args.name not in WITHOUT_KERNELS:
        if context.rehearsal:
            from gpu import interpreted

            interpreted.take_over()
        else:
            finish = count_compilations(context)
    try:
        importlib.import_module(f"gpu.steps.{args.name}").run(context)
    finally:
        finish()


if __name__ == "__main__":
    main()
