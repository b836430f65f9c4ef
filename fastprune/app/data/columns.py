"""Finds the columns of a table that hold the text, the second text, the label, the tags and the id."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fastprune.errors import UsageError

PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("question", "sentence"),
    ("#1 string", "#2 string"),
)
TEXT_COLUMNS = ("text", "sentence", "question", "utterance", "utt", "review", "tweet", "query", "tokens", "words")
LABEL_COLUMNS = (
    "label",
    "labels",
    "target",
    "intent",
    "sentiment",
    "category",
    "class",
    "gold_label",
    "is_duplicate",
    "quality",
)
TAGS = ("tags", "ner_tags", "slots", "slot_tags", "bio_tags")
IDS = ("id", "idx", "guid", "slurp_id")
SPLITS = ("split", "partition")
LONGEST_NAME, LISTED_NAMES = 40, 20
"""How much of a name, and how many names, a message shows."""


@dataclass(frozen=True)
class Wanted:
    """Columns by what they hold, as the user named them.  None means found by its usual names, or absent."""

    text: str | None = None
    label: str | None = None
    pair: str | None = None
    tags: str | None = None
    id: str | None = None


@dataclass(frozen=True)
class Columns:
    """Columns that exist.  Without label and tags a table is unlabelled."""

    text: str
    label: str | None = None
    pair: str | None = None
    tags: str | None = None
    id: str | None = None


def find_columns(names: Sequence[str], wanted: Wanted, where: str) -> Columns:
    """Find the columns of a table, by the user's names or by the usual names in any case of letters.

    Raises:
        UsageError: a named column is not there, or several columns could be the text or the label.
    """
    for option, name in (("text", wanted.text), ("label", wanted.label), ("pair", wanted.pair), ("tags", wanted.tags),
                         ("id", wanted.id)):  # fmt: skip
        if name is not None and name not in names:
            raise UsageError(f"{where}: no column --{option}-column {name!r}: choose one of {listing(names)}.")
    text, pair = wanted.text, wanted.pair
    usual = {name.lower(): name for name in names}
    if text is None and pair is None:
        both = next((both for both in PAIRS if set(both) <= usual.keys()), None)
        if both is not None:
            text, pair = usual[both[0]], usual[both[1]]
    given = {wanted.label, wanted.pair, wanted.tags, wanted.id} - {None}
    text = text or _one(names, TEXT_COLUMNS, given, "text", where)
    if text is None:
        raise UsageError(
            f"{where}: no column has a usual name of a text ({', '.join(TEXT_COLUMNS[:5])}, …): set --text-column to "
            f"one of {listing(names)}, or name the columns of a file without header in --columns"
            f"{', or say --task causal-lm' if {'prompt', 'messages', 'completion', 'answer'} & set(names) else ''}."
        )
    return Columns(
        text=text,
        pair=pair,
        label=wanted.label or _one(names, LABEL_COLUMNS, {text, pair, wanted.tags, wanted.id}, "label", where),
        tags=wanted.tags or _one(names, TAGS, {text, pair, wanted.label, wanted.id}, "tags", where),
        id=wanted.id or next((usual[name] for name in IDS if name in usual), None),
    )


def split_column(names: Sequence[str], wanted: str | None, where: str) -> str | None:
    """Find the column that says which split a row is of, if there is one.

    Raises:
        UsageError: the named column is not there.
    """
    if wanted is not None and wanted not in names:
        raise UsageError(f"{where}: no column --split-column {wanted!r}: choose one of {listing(names)}.")
    return wanted or next((name for name in names if name.lower() in SPLITS), None)


def _one(names: Sequence[str], usual: Sequence[str], taken: set[str | None], what: str, where: str) -> str | None:
    found = [name for name in names if name.lower() in usual and name not in taken]
    if what == "text" and len(found) > 1:  # of "text" and "tokens" one is made of the other
        found = [name for name in found if name.lower() not in ("tokens", "words")] or found[:1]
    if len(found) > 1:
        shown = " or ".join(repr(name) for name in found)
        raise UsageError(f"{where}: the {what} may be in column {shown}: say which with --{what}-column.")
    return found[0] if found else None


def listing(names: Iterable[str]) -> str:
    """Return the first names, each cut to a length that fits a message.

    >>> listing(["a", "b" * 50])
    "'a', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb…'"
    """
    shown = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in names]
    return ", ".join(map(repr, shown[:LISTED_NAMES])) + (", …" if len(shown) > LISTED_NAMES else "")
