"""A rank of ``fastprune finetune``: the command line, under torchrun."""

import os
import sys

from helpers.under_torchrun import settle

settle()

from fastprune.app.cli import main  # noqa: E402

FAIL = "FASTPRUNE_TEST_FAIL"
"""Environment variable RANK:METHOD:CALL: on that rank that call of that method of `RunTrainer` raises."""


def fail(rank: str, method: str, call: str) -> None:
    """What the variable says."""
    if rank != os.environ["RANK"]:
        return
    from fastprune.app.finetune.train import RunTrainer

    original, calls = getattr(RunTrainer, method), []

    def counted(*args, **kwargs):
        calls.append(method)
        if len(calls) == int(call):
            raise ValueError(f"made up in {method}")
        return original(*args, **kwargs)

    setattr(RunTrainer, method, counted)


if FAIL in os.environ:
    fail(*os.environ[FAIL].split(":"))
sys.exit(main(sys.argv[1:]))
