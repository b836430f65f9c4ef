"""The command line: ``fastprune finetune``, ``score``, ``select``, ``report``, ``methods`` and ``info``.

One module a command, each with ``add(commands)`` for its grammar and ``run(arguments)``.  Bad input ends with one
sentence on standard error and exit status 2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from fastprune.cli import finetune, info, methods, report, score, select
from fastprune.errors import UsageError

INTERRUPTED = 130
COMMANDS = (finetune, score, select, report, methods, info)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = parser().parse_args(argv)
    try:
        arguments.command(arguments)
    except (UsageError, OSError) as error:
        print(f"fastprune: {error}", file=sys.stderr)
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
