"""The console script ``fastprune``: what counts only before torch is loaded is set here, and nowhere on import.

It lies beside the package, because importing any part of the package loads torch.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress

SPINS = "1000"
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def main() -> int:
    """Set up the process and run one command; returns the exit status."""
    give_way()
    keep_freed_memory()
    from fastprune.app.cli import main as run

    return run()


def give_way() -> None:
    """Threads that wait for others sleep soon, unless the user has said how they wait.

    GNU OpenMP's threads spin, for a whole time slice of a busy machine, and take it from those they wait for.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPINS


def keep_freed_memory() -> None:
    """glibc keeps freed memory, unless the user has said what it does.

    It would give large blocks back to the system and ask for them again in every training step.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")) for name in os.environ):
        return
    with suppress(OSError, AttributeError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


if __name__ == "__main__":
    sys.exit(main())
