"""Makes the page in Markdown, and what the terminal shows of the examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastprune.app.printable import printable
from fastprune.app.report.classes import markdown_classes
from fastprune.app.report.examples import Example, Extremes
from fastprune.app.report.folder import PICTURE
from fastprune.app.report.headline import headline
from fastprune.app.report.table import as_text, markdown_lines, markdown_tables

SHOWN_IN_TERMINAL = 5
NO_TEXT = "(text not at hand)"


def markdown_page(
    title: str,
    summary: Mapping[str, Any],
    found: Mapping[str, Extremes],
    classes: Mapping[str, Mapping[str, Mapping[str, float]]],
) -> str:
    """Return the whole page.

    ``found`` and ``classes`` go by the name of the run folder, which is shown if there are several.
    """
    several = len(summary.get("folders") or ()) > 1
    parts = [
        f"# {as_text(title or 'Report')}\n\n",
        # In bold, so that no name at a line's beginning makes a list or a heading of it.
        *(f"**{as_text(sentence)}**\n\n" for sentence in headline(summary)),
        markdown_tables(summary),
        f"\n![metric and loss of the runs, churn, data map and scores]({PICTURE})\n",
    ]
    for folder, of_model in classes.items():
        parts.append(f"\n## {as_text(f'{folder}: classes' if several else 'Classes')} of the model in model/\n\n")
        parts.append(markdown_classes(of_model))
    for folder, ends in found.items():
        where = as_text(heading(ends, folder if several else None))
        for name, examples in (("Most", ends.most), ("Least", ends.least)):
            parts.append(f"\n## {name} useful examples: {where}\n\n")
            parts.append(_table(examples))
    return "".join(parts)


def heading(ends: Extremes, folder: str | None = None) -> str:
    """Return run, seed and when the scores were taken, after the folder where there are several."""
    folder = "" if folder is None else f"{folder}: "
    return printable(f"{folder}{ends.run}, seed {ends.seed}, after epoch {ends.epoch}")


def rich_examples(ends: Extremes, width: int, folder: str | None = None) -> Any:
    """Return what to print with ``rich.console.Console`` of that width."""
    from rich import box
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    def table(examples: Sequence[Example]) -> Table:
        shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, width=width)
        for name in ("Index", "Score", "Kept"):
            shown.add_column(name, justify="right", no_wrap=True)
        shown.add_column("Label", no_wrap=True, max_width=max(8, width // 4))
        shown.add_column("Text", no_wrap=True, ratio=1)
        for example in examples[:SHOWN_IN_TERMINAL]:
            shown.add_row(*(escape(printable(cell)) for cell in _cells(example)))
        return shown

    return Group(
        Text(f"Most useful: {heading(ends, folder)}", style="bold"),
        table(ends.most),
        Text("Least useful", style="bold"),
        table(ends.least),
    )


def _table(examples: Sequence[Example]) -> str:
    body = [[as_text(cell) for cell in _cells(example)] for example in examples]
    return markdown_lines(("Index", "Score", "Kept", "Label", "Text"), (True, True, True, False, False), body)


def _cells(example: Example) -> list[str]:
    kept = f"{example.kept} of {example.cycles}"
    text = NO_TEXT if example.text is None else " ".join(example.text.split())
    return [str(example.index), f"{example.score:.3g}", kept, example.label or "–", text]
