"""Starts a worker module on several Gloo processes of this machine, as a user does with torchrun."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

SECONDS = 100
SLOW_IMPORTS = ("fastprune", "accelerate", "transformers.trainer", "lightning.pytorch")
"""What the server of `settle` loads once instead of every worker."""


def run(worker: Path, ranks: int, *arguments: str, cwd: Path | None = None, seconds: int = SECONDS) -> str:
    """What the ranks wrote, standard error included.

    Raises:
        AssertionError: one of them failed.
    """
    # The loop-back address, as the host's own name does not resolve in every container.
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
    done = subprocess.run(
        [*torchrun, f"--nproc-per-node={ranks}", str(worker), *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds + 60,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def settle(seconds: int = SECONDS) -> None:
    """In a worker, before it has threads: a hang shows where it is, and ends before the test that waits for it does."""
    faulthandler.dump_traceback_later(seconds, exit=True)
    torch.set_num_threads(1)
    # Loaders' workers come from a server without threads: forked beside Gloo's, now and then one never begins, in
    # CPython before 3.11.10 (gh-112275).
    multiprocessing.set_start_method("forkserver")
    multiprocessing.set_forkserver_preload([name for name in SLOW_IMPORTS if name in sys.modules])


def begin() -> None:
    """`settle`, and join the group."""
    settle()
    dist.init_process_group("gloo", timeout=timedelta(seconds=30))
