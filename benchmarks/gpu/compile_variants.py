"""Compiles a list of kernel variants into Triton's cache, in parallel: no GPU, no PyTorch and no built core are needed.

    python -m gpu.compile_variants VARIANTS.json --arch 90 --workers 16 --report REPORT.json

The kernels' modules import PyTorch for their launchers. This process gives them a stand-in, so that it starts at once
and so that a cache can be filled by a Python that has Triton alone (see `gpu.carry`).
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = ("fastprune", "fastprune.scores", "fastprune.selection")


class NoTorch(ModuleType):
    """A module whose every attribute is its own name."""

    def __getattr__(self, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return f"{self.__name__}.{name}"


def stand_ins() -> None:
    """PyTorch's name, and fastprune's packages without what their __init__ imports."""
    sys.modules.setdefault("torch", NoTorch("torch"))
    for name in PACKAGES:
        if name not in sys.modules:
            package = ModuleType(name)
            package.__path__ = [str(ROOT / name.replace(".", "/"))]
            sys.modules[name] = package


def compiled(variant: dict[str, Any], arch: int) -> Any:
    """The kernel of a variant, from Triton's cache or from its compiler."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    source = ASTSource(
        getattr(importlib.import_module(variant["module"]), variant["kernel"]),
        variant["signature"],
        {tuple(path): value for path, value in variant["constants"]},
        {tuple(path): value for path, value in variant["attributes"]},
    )
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=variant["options"])


def compile_one(variant: dict[str, Any], arch: int) -> dict[str, Any]:
    """Compile one variant: seconds in all and in the assembler, and whether the cache had it."""
    import triton

    seen: dict[str, Any] = {}

    def listen(*, times: Any, cache_hit: bool, **_: Any) -> None:
        stages = dict(times.lowering_stages or ())
        seen.update(hit=cache_hit, assembler=stages.get("cubin", 0) / 1e6)

    triton.knobs.compilation.listener = listen
    start = time.perf_counter()
    kernel = compiled(variant, arch)
    seconds = time.perf_counter() - start
    return {"kernel": variant["kernel"], "steps": variant["steps"], "seconds": seconds, **seen, **launcher(kernel)}


def launcher(kernel: Any) -> dict[str, Any]:
    """Compile the C function that launches such a kernel, too: Triton does it on the first launch of a signature."""
    from triton.backends.nvidia import driver

    start = time.perf_counter()
    try:
        driver.CudaLauncher(kernel.src, kernel.metadata)
    except Exception as error:  # no driver on this machine, as in a rehearsal
        return {"launcher": f"{type(error).__name__}: {str(error).strip()[:80]}"}
    return {"launcher": time.perf_counter() - start}


def _compile(number: int) -> dict[str, Any]:
    try:
        return compile_one(_VARIANTS[number], _ARCH)
    except Exception as error:
        variant = _VARIANTS[number]
        why = f"{type(error).__name__}: {str(error)[:200]}"
        return {"kernel": variant["kernel"], "steps": variant["steps"], "failed": why}


_VARIANTS: list[dict[str, Any]] = []
_ARCH = 0


def main() -> None:
    global _ARCH
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", type=Path)
    parser.add_argument("--arch", type=int, required=True)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--report", type=Path, required=True)
    args = parser.parse_args()
    start = time.perf_counter()
    stand_ins()
    _VARIANTS[:], _ARCH = json.loads(args.variants.read_text()), args.arch
    import triton.compiler  # once, before the processes split

    # Those that take longest first, so that no process ends alone.
    order = sorted(range(len(_VARIANTS)), key=lambda i: _VARIANTS[i]["kernel"] not in ("long_rows_kernel",))
    with ProcessPoolExecutor(args.workers, multiprocessing.get_context("fork")) as pool:
        done = [future.result() for future in as_completed([pool.submit(_compile, number) for number in order])]
    report = {
        "triton": triton.__version__,
        "arch": args.arch,
        "workers": args.workers,
        "wall": time.perf_counter() - start,
        "variants": done,
    }
    args.report.write_text(json.dumps(report))


if __name__ == "__main__":
    main()
