"""Makes text from data and foreign files fit for a picture."""

from __future__ import annotations

from fastprune.app.printable import printable

LONGEST = 40


def drawn(text: object, longest: int = LONGEST) -> str:
    r"""Return the text for matplotlib: cut to a length, and without formulas.

    >>> drawn("a $x^{"), drawn("n" * 50, 10)
    ('a \\$x^{', 'nnnnnnnnn…')
    """
    shown = printable(text)
    shown = shown if len(shown) <= longest else f"{shown[: longest - 1]}…"
    return shown.replace("$", r"\$")
