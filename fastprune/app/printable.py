"""Text from data and foreign files, made safe to print."""

from __future__ import annotations

import unicodedata

# Categories that a terminal acts on or cannot show: control, format (which turns the direction of text), surrogate,
# and the separators of lines.
_ACTIVE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINERS = {"\u200c", "\u200d"}
"""Format characters that writing needs: in Persian and Indic scripts, and in emoji."""


def printable(text: object) -> str:
    r"""The text with an escape for every character that a terminal would act on.

    A file's text could move the cursor, change the title or hide what was printed before it.

    >>> printable("caf\u00e9 \x1b[2J")
    'café \\x1b[2J'
    >>> printable("one\ntwo")
    'one\\ntwo'
    """
    return "".join(_escaped(c) for c in str(text))


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _ACTIVE or character in _JOINERS:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
