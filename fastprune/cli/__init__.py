"""The command line: ``fastprune finetune``, ``score``, ``select``, ``report``, ``methods`` and ``info``.

One module a command, each with ``add(commands)`` for its grammar and ``run(arguments)``.  Bad input ends with one
sentence on standard error and exit status 2; what is wrong with the machine, such as a full disk, with 1.
"""

from __future__ import annotations

import argparse
import errno
import io
import sys
from collections.abc import Sequence
from typing import NoReturn

from fastprune.cli import finetune, info, methods, report, score, select
from fastprune.errors import UsageError
from fastprune.printable import printable

INTERRUPTED = 130
OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EIO}
"""What no other option would mend: a full disk, a full quota, a broken one.  Exit status 1."""
MENDED = "; nothing that was written before is lost: make room, and add --resume to go on"
COMMANDS = (finetune, score, select, report, methods, info)


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
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return top
