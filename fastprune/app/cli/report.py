"""``fastprune report``: makes the table, the picture and the page of one or more run folders."""

from __future__ import annotations

import argparse
from typing import Any

from fastprune.app.cli.paths import user_path
from fastprune.app.printable import printable


def add(commands: Any) -> None:
    """Add the command's grammar."""
    report = commands.add_parser(
        "report",
        help="table, picture and examples of run folders",
        description="Make report.html, report.md and report.png again, and show them. They say what was saved and "
        "lost. They show quality by time and epoch, the loss, the scores and the churn of each cycle, the data map, "
        "the classes, and the most and the least useful examples.",
    )
    report.set_defaults(command=run)
    report.add_argument("runs", nargs="+", type=user_path, metavar="RUN", help="run folder. Several are shown together")
    report.add_argument(
        "--out", type=user_path, help="folder for the three files (by default the run folder, if there is only one)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Run ``fastprune report``."""
    from rich.console import Console

    from fastprune.app.report import rich_examples, rich_table, write_report

    report = write_report(*arguments.runs, out=arguments.out)
    console = Console()
    console.print(rich_table(report.summary))
    for folder, ends in report.examples.items():
        console.print(rich_examples(ends, console.width, folder if len(report.examples) > 1 else None))
    print(printable(f"report: {report.html}, with {report.page.name} and {report.picture.name} beside it"))
