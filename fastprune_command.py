"""The console script ``fastprune``.  It sets here what counts only before torch is loaded.

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
    """Set up the process, run one command, and return the exit status."""
    give_way()
    keep_freed_memory()
    from fastprune.app.cli import main as run

    return run()


def give_way() -> None:
    """Let threads that wait for others sleep soon, unless the user has said how they wait.

    GNU OpenMP's threads spin for a whole time slice.  On a busy machine they take it from the threads that they wait
    for.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPINS


def keep_freed_memory() -> None:
    """Let glibc keep freed memory, unless the user has said what it does.

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
