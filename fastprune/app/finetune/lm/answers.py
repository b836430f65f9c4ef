"""The answer of GSM8K's form: the number behind ``####``."""

from __future__ import annotations

import re
from decimal import Decimal

from fastprune.app.data.types import Split
from fastprune.app.printable import printable
from fastprune.errors import UsageError

_ANSWER = re.compile(r"####\s*\$?\s*([-+]?)\s*\$?\s*(\d[\d,]*(?:\.\d+)?|\.\d+)")


def final_answer(text: str) -> str | None:
    r"""Return the number behind the first ``####`` of a text in one spelling, or None without one.

    Commas, a dollar sign and a dot at the end do not count, nor do zeros at the end of a fraction.

    >>> final_answer("so 1,000 + 7.\n#### $1,007."), final_answer("#### -0.50"), final_answer("42")
    ('1007', '-0.5', None)
    """
    found = _ANSWER.search(text)
    if found is None:
        return None
    number = Decimal(f"{found[1].strip('+')}{found[2].replace(',', '')}").normalize()
    return f"{number:f}" if number else "0"


def same_answer(written: str, gold: str) -> bool:
    """Return whether both texts end in the same number.  A text without one is wrong."""
    answer = final_answer(written)
    return answer is not None and answer == final_answer(gold)


def check_answers(name: str, split: Split) -> None:
    """Refuse a split in which some example has no such answer, or no question before it.

    Raises:
        UsageError: the message names the first.
    """
    for row, turns in zip(split.row_numbers, split.turns or (), strict=True):
        if len(turns) == 1:
            raise UsageError(
                f"--metric exact-answer needs a question before each answer, and row {row + 1} of {printable(name)} is "
                "one text: write prompt and completion, or choose loss or perplexity"
            )
        if final_answer(turns[-1].text) is None:
            raise UsageError(
                f"--metric exact-answer compares numbers behind '####', and row {row + 1} of {printable(name)} has "
                "none: write '#### 42' at the end of each answer, or choose loss or perplexity"
            )
