"""New processes that have imported everything already: copies of a server, which imports once.

Torch, transformers and Lightning take about ten seconds to import.  A test that starts processes of its own starts them
here, so that these seconds are paid once in a session, and not once a process.

All copies hash strings alike, as they come from one server.  That an order does not hang on these hashes is for tests
that start Python itself: test_ranks.py, and in `make soak` all that have ranks.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import runpy
import sys
from collections.abc import Callable, Mapping
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import torch

_CONTEXT = multiprocessing.get_context("forkserver")
# What a package imports only when it is used is named, too.  A module that is not installed is left out.
IMPORTS = (
    "pytest",
    "torch._dynamo",
    "torch.distributed.tensor",
    "fastprune.app.finetune.session",
    "datasets",
    "pyarrow.parquet",
    "pandas",
    "matplotlib.figure",
    "transformers.trainer",
    "transformers.models.bert.modeling_bert",
    "accelerate",
    "lightning.pytorch",
)


def start(
    target: Callable[..., None],
    *arguments: Any,
    log: Path | None = None,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> ForkServerProcess:
    """A process that calls `target` with one thread, and ends with it.

    Args:
        target: a function of a module that can be imported.
        log: the file to whose end the process writes what it says.
        cwd: its working directory, by default this process' own.
        environment: its environment, by default this process' own.
    """
    environment = dict(os.environ if environment is None else environment)
    process = context().Process(target=_begin, args=(target, arguments, log, cwd, environment))
    process.start()
    return process


def context() -> ForkServerContext:
    """Where such processes come from.  The server runs then."""
    before = dict(os.environ)
    # Some packages read these when they are imported.
    os.environ.update({"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"})
    try:
        _CONTEXT.set_forkserver_preload(list(IMPORTS))
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return _CONTEXT


def _begin(
    target: Callable[..., None],
    arguments: tuple[Any, ...],
    log: Path | None,
    cwd: Path | None,
    environment: dict[str, str],
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    if log is not None:
        with log.open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
    if cwd is not None:
        os.chdir(cwd)
    gc.freeze()  # see tests/conftest.py
    torch.set_num_threads(1)  # sums in another order have other bits
    target(*arguments)


def share_the_server() -> None:
    """Runs in a new process.  Its own child processes, such as a loader's workers, come from a server, too.

    A copy's come from the server that it comes from itself.  CPython means that, but a copy does not know the server's
    number, and would start another.
    """
    multiprocessing.set_start_method("forkserver", force=True)
    if forkserver.get_inherited_fds() is None:
        _CONTEXT.set_forkserver_preload([name for name in IMPORTS if name in sys.modules])
    else:
        forkserver._forkserver.ensure_running = resource_tracker.ensure_running  # type: ignore[method-assign]


def run_as_main(script: Path, arguments: tuple[str, ...]) -> None:
    """What `python script arguments` does."""
    sys.argv = [str(script), *arguments]
    runpy.run_path(str(script), run_name="__main__")
