"""Answers of GSM8K's form, on texts."""

from __future__ import annotations

import pytest

from fastprune.app.data.types import Split, Turn
from fastprune.app.finetune.lm.answers import check_answers, final_answer, same_answer
from fastprune.errors import UsageError


@pytest.mark.parametrize(
    "text, answer",
    [
        ("Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n#### 72", "72"),
        ("#### 1,234", "1234"),
        ("#### $1,234.50", "1234.5"),
        ("####42.", "42"),
        ("####  -7 apples", "-7"),
        ("#### -$5", "-5"),
        ("#### $-5", "-5"),
        ("#### +5", "5"),
        ("#### 0.0", "0"),
        ("#### .5", "0.5"),
        ("#### 100", "100"),
        ("#### 12 and so on #### 13", "12"),
        ("#### about", None),
        ("the answer is 72", None),
        ("", None),
    ],
)
def test_the_answer_of_a_text(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    "written, gold, right",
    [
        ("so it is #### $1,000.", "#### 1000", True),
        ("#### 7.0", "#### 7", True),
        ("#### 7.01", "#### 7", False),
        ("7", "#### 7", False),
        ("no", "no", False),
    ],
)
def test_answers_are_compared_as_numbers(written: str, gold: str, right: bool) -> None:
    assert same_answer(written, gold) is right


def test_a_split_without_answers_is_refused() -> None:
    turns = [(Turn("prompt", "a"), Turn("completion", text)) for text in ("#### 1", "1")]
    with pytest.raises(UsageError, match="behind '####', and row 10 of test has none: write '#### 42' at the end"):
        check_answers("test", Split(["a", "a"], None, rows=[3, 9], turns=turns))
    with pytest.raises(UsageError, match="needs a question before each answer, and row 1 of test is one text: write"):
        check_answers("test", Split(["a"], None, turns=[(Turn("text", "#### 1"),)]))
