"""``fastprune methods``: the pruning methods and their cards."""

from __future__ import annotations

import argparse
import re
import textwrap
from typing import Any

from fastprune.errors import UsageError
from fastprune.pruning import parse_method

WIDTH = 80
FIELDS = (
    "Source",
    "Rule",
    "Settings",
    "Published",
    "Advice",
    "Reads",
    "Cost",
    "Memory",
    "When",
    "When not",
    "In Python",
    "On the command line",
)


def add(commands: Any) -> None:
    """Add the command's grammar."""
    methods = commands.add_parser("methods", help="the pruning methods and their cards")
    methods.set_defaults(command=run)
    methods.add_argument("name", nargs="?", help="show this method's card whole")


def run(arguments: argparse.Namespace) -> None:
    """Run ``fastprune methods``."""
    from fastprune.methods import METHOD_CARDS

    if arguments.name is not None:
        try:
            name = parse_method(arguments.name).name
        except ValueError as error:
            raise UsageError(str(error)) from None
        if name not in METHOD_CARDS:
            raise UsageError(f"method {arguments.name!r} is unknown; choose one of {', '.join(METHOD_CARDS)}")
        print(wrap_card(METHOD_CARDS[name]))
        return
    margin = max(map(len, METHOD_CARDS)) + 2
    for name, card in METHOD_CARDS.items():
        print(
            textwrap.fill(
                card.splitlines()[0], WIDTH, initial_indent=f"{name:<{margin}}", subsequent_indent=" " * margin
            )
        )


def fields_of(card: str) -> tuple[str, list[tuple[str, str]]]:
    r"""Return the title of a card, and its fields by name in their order.

    Text that belongs to no field has the name "".

    >>> fields_of("Random.\n\nSource: none.  Cost: nothing.\n\nIn Python: Random()")
    ('Random.', [('Source', 'none.'), ('Cost', 'nothing.'), ('In Python', 'Random()')])
    """
    title, *paragraphs = card.split("\n\n")
    found = []
    for paragraph in paragraphs:
        for part in re.split(rf"(?:^|\s+)(?=(?:{'|'.join(FIELDS)}): )", " ".join(paragraph.split())):
            name, separator, text = part.partition(": ")
            if separator and name in FIELDS:
                found.append((name, text))
            elif part:
                found.append(("", part))
    return " ".join(title.split()), found


def wrap_card(card: str) -> str:
    """Return a card in 80 columns.  Each field begins a line of its own, and its other lines are indented."""
    title, *paragraphs = card.split("\n\n")
    lines = [textwrap.fill(title, WIDTH)]
    for paragraph in paragraphs:
        lines.append("")
        for name, text in fields_of(f"\n\n{paragraph}")[1]:
            field = f"{name}: {text}" if name else text
            lines.append(textwrap.fill(field, WIDTH, subsequent_indent="  ", break_on_hyphens=False))
    return "\n".join(lines)
