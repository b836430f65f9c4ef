"""Launches every variant as a step would, up to the device, and says which ones Triton's cache does not have.

    python -m gpu.relaunch --arch 90 [--toy]

`compile_variants` fills the cache by another way than a launch takes. Here a fresh process takes the launch's own way.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import triton

from gpu import variants


class ToTheDevice:
    """Stands in for a kernel: a launch looks it up or compiles it, and stops there."""

    def __init__(self, kernel: triton.JITFunction) -> None:
        self.kernel = kernel

    def __getitem__(self, grid: Any) -> Callable[..., Any]:
        return lambda *args, **kwargs: self.kernel.run(*args, grid=grid, warmup=True, **kwargs)


def relaunch(arch: int, toy: bool) -> tuple[int, list[str]]:
    """(how many were in the cache, which were not)."""
    hits, missed = 0, []

    def listen(*, src: Any, cache_hit: bool, **_: Any) -> None:
        nonlocal hits
        hits += cache_hit
        if not cache_hit:
            missed.append(src.name)

    triton.knobs.compilation.listener = listen
    with variants.standing_in(arch, ToTheDevice):
        for _, call in variants.launches(toy):
            call()
    return hits, missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", type=int, default=90)
    parser.add_argument("--toy", action="store_true")
    args = parser.parse_args()
    hits, missed = relaunch(args.arch, args.toy)
    print(f"launches found {hits} variants in the cache and missed {len(missed)} {missed or ''}")
    sys.exit(bool(missed))


if __name__ == "__main__":
    main()
