"""Words of a text and their tags."""

from __future__ import annotations

from collections.abc import Sequence

from fastprune.errors import UsageError, shown


def clean_text(text: str) -> str:
    r"""Return the words joined by single spaces.

    Only ASCII blanks separate words.  A no-break space inside a value is part of its word, because the tag files count
    words by plain spaces.

    >>> clean_text("  turn \t on\u00a0it ")
    'turn on\xa0it'
    """
    return " ".join(word for word in text.replace("\t", " ").split(" ") if word)


def is_bio(tag: str) -> bool:
    """Return whether a tag is O, B-<type> or I-<type>."""
    return tag == "O" or (tag[:2] in ("B-", "I-") and len(tag) > 2)


def check_tags(text: str, tags: Sequence[str], where: str) -> None:
    """Refuse tags that are not one BIO tag for each word of ``text``.

    Raises:
        UsageError: the message says which.
    """
    n_words = len(text.split(" "))
    if n_words != len(tags):
        raise UsageError(f"{where}: {n_words} words but {len(tags)} tags: give one tag per space-separated word.")
    for tag in tags:
        if not is_bio(tag):
            raise UsageError(f"{where}: tag {shown(tag)} is not O, B-<type> or I-<type>: write BIO tags.")
