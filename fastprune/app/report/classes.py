"""Shows how well the model in ``model/`` knows each class: the largest classes of ``classes.json`` as a table."""

from __future__ import annotations

from collections.abc import Mapping

from fastprune.app.report.table import as_text, markdown_lines

MOST_ROWS = 30
CLASS_HEADINGS = ("Class", "Precision %", "Recall %", "F1 %", "Examples")
RATES = ("precision", "recall", "f1")


def markdown_classes(classes: Mapping[str, Mapping[str, float]]) -> str:
    """Return the classes with most examples first, at most `MOST_ROWS`.  The others are counted."""
    order = sorted(classes, key=lambda name: (-classes[name]["support"], name))
    body = [
        [as_text(name), *(f"{100 * classes[name][rate]:.1f}" for rate in RATES), f"{classes[name]['support']:,.0f}"]
        for name in order[:MOST_ROWS]
    ]
    table = markdown_lines(CLASS_HEADINGS, (False, True, True, True, True), body)
    more = len(order) - MOST_ROWS
    return table + (f"\nNot shown: {more} more with fewer examples.\n" if more > 0 else "")
