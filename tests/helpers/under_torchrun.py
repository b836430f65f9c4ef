"""Starts a worker module on several Gloo processes of this machine, as a user does with torchrun.

Torchrun itself does it in `make soak`, and in the tests that are about torchrun.  Else the ranks are copies of a
process that has imported everything, and get the environment that torchrun gives.
"""

from __future__ import annotations

import faulthandler
import os
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from multiprocessing.connection import wait
from pathlib import Path

import torch
import torch.distributed as dist

from helpers import forked

SECONDS = 100
PATIENCE = 10
"""Seconds that the other ranks have when one has failed."""

# The loop-back address, as the host's own name does not resolve in every container.
HOST = "127.0.0.1"


def run(worker: Path, ranks: int, *arguments: str, cwd: Path | None = None, seconds: int = SECONDS) -> str:
    """What the ranks wrote, standard error included.

    Raises:
        AssertionError: one of them failed.
    """
    if "FASTPRUNE_SOAK" in os.environ:
        return torchrun(worker, ranks, *arguments, cwd=cwd, seconds=seconds)
    statuses, said = ended(worker, ranks, *arguments, cwd=cwd, seconds=seconds)
    assert not any(statuses), f"the ranks ended with {statuses}: {said}"
    return said


def torchrun(worker: Path, ranks: int, *arguments: str, cwd: Path | None = None, seconds: int = SECONDS) -> str:
    """The same by way of torchrun."""
    done = subprocess.run(
        [*command(ranks), str(worker), *arguments],
        env=environment(),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds + 60,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def command(ranks: int) -> list[str]:
    """Torchrun's, up to the script."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--local-addr={HOST}"]
    return [*torchrun, f"--nproc-per-node={ranks}"]


def environment() -> dict[str, str]:
    """The environment of the ranks: that of this process, with the paths of the tests' modules."""
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


def ended(
    worker: Path, ranks: int, *arguments: str, cwd: Path | None = None, seconds: int = SECONDS
) -> tuple[list[int], str]:
    """The status of each rank, and what they wrote.

    If one fails, the others have a few seconds to end.  After that they are killed, and their status is -9.
    """
    # Ranks find each other here.  It stays until all of them have ended.
    store = dist.TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
    told = [environment() | _told(rank, ranks, store.port) for rank in range(ranks)]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "said"
        log.touch()
        processes = [
            forked.start(forked.run_as_main, worker, arguments, log=log, cwd=cwd, environment=one) for one in told
        ]
        left, end = processes, time.monotonic() + seconds + 60
        while left and time.monotonic() < end:
            wait([process.sentinel for process in left], timeout=end - time.monotonic())
            left = [process for process in left if process.is_alive()]
            if any(process.exitcode for process in processes):
                end = min(end, time.monotonic() + PATIENCE)
        for process in left:
            process.kill()
            process.join()
        return [process.exitcode for process in processes], log.read_text()


def _told(rank: int, ranks: int, port: int) -> dict[str, str]:
    """What torchrun adds to a rank's environment."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "ROLE_RANK": str(rank),
        "GROUP_RANK": "0",
        "ROLE_NAME": "default",
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "ROLE_WORLD_SIZE": str(ranks),
        "GROUP_WORLD_SIZE": "1",
        "MASTER_ADDR": HOST,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0",
        "TORCHELASTIC_RUN_ID": "tests",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }


def settle(seconds: int = SECONDS) -> None:
    """Call it in a worker before it has threads.

    If the worker hangs, it prints where, and ends before the test gives up.
    """
    faulthandler.dump_traceback_later(seconds, exit=True)
    torch.set_num_threads(1)
    # Loaders' workers come from a server without threads: forked beside Gloo's, now and then one never begins, in
    # CPython before 3.11.10 (gh-112275).
    forked.share_the_server()


def begin() -> None:
    """`settle`, and join the group."""
    settle()
    dist.init_process_group("gloo", timeout=timedelta(seconds=30))
