"""Starts a worker module on several Gloo processes of this machine, as a user does with torchrun."""

from __future__ import annotations

import faulthandler
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

SECONDS = 100


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


def begin() -> None:
    """In a worker: a hang shows where it is, and ends before the test that waits for it does."""
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=30))
