"""The command line: ``fastprune finetune``, ``predict``, ``score``, ``select``, ``report``, ``methods`` and ``info``.

Each command is one module.  Its ``add(commands)`` is the grammar, and its ``run(arguments)`` does the work.  Bad input
ends with one sentence on standard error and exit status 2.  A fault of the machine, such as a full disk, ends with
status 1.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from typing import NoReturn

import fastprune
from fastprune.app.cli import finetune, info, methods, predict, report, score, select
from fastprune.app.cli.ending import ended
from fastprune.errors import UsageError

COMMANDS = (finetune, predict, score, select, report, methods, info)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command, and return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # with another encoding a terminal shows an escape
            stream.reconfigure(errors="backslashreplace")
    arguments = parser().parse_args(argv)
    try:
        arguments.command(arguments)
    except (Exception, KeyboardInterrupt) as error:
        status = ended(error)
        if status is None:
            raise
        return status
    return 0


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one sentence, without the whole usage before it."""

    def error(self, message: str) -> NoReturn:
        sys.exit(ended(UsageError(f"{message}; see {self.prog} --help")))


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    top = _Parser(prog="fastprune", description="Finetune on the examples that still teach the model something.")
    top.add_argument("--version", action="version", version=f"fastprune {fastprune.__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return top
