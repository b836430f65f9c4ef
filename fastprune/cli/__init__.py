"""The command line: ``fastprune finetune``, ``predict``, ``score``, ``select``, ``report``, ``methods`` and ``info``.

One module a command, each with ``add(commands)`` for its grammar and ``run(arguments)``.  Bad input ends with one
sentence on standard error and exit status 2; what is wrong with the machine, such as a full disk, with 1.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

import fastprune
from fastprune.cli import finetune, info, methods, predict, report, score, select
from fastprune.errors import UsageError
from fastprune.printable import printable

INTERRUPTED = 130
OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EIO}
"""What no other option would mend: a full disk, a full quota, a broken one.  Exit status 1."""
MENDED = "; nothing that was written before is lost: make room, and add --resume to go on"
GRACE = 5.0
"""Seconds that processes beside the first wait before they say what is wrong."""
COMMANDS = (finetune, predict, score, select, report, methods, info)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal of another encoding shows an escape, and nothing fails
            stream.reconfigure(errors="backslashreplace")
    arguments = parser().parse_args(argv)
    try:
        arguments.command(arguments)
    except OSError as error:
        print(f"fastprune: {printable(error)}{MENDED if error.errno in OF_THE_MACHINE else ''}", file=sys.stderr)
        return 1 if error.errno in OF_THE_MACHINE else 2
    except (UsageError, RecursionError) as error:
        if int(os.environ.get("RANK", "0")) > 0:
            if getattr(error, "said_elsewhere", False):
                return 2
            time.sleep(GRACE)  # most often the first process says the same, and torchrun then ends this one
        what = "a file is nested too deeply to be read" if isinstance(error, RecursionError) else error
        print(f"fastprune: {printable(what)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fastprune: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the whole usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"fastprune: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = _Parser(prog="fastprune", description="Finetune on the examples that still teach the model something.")
    top.add_argument("--version", action="version", version=f"fastprune {fastprune.__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return top
