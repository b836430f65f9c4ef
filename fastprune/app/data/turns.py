"""Reads examples of a language model: prompts with completions, messages, or texts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fastprune.app.data.columns import Wanted, listing
from fastprune.app.data.examples import Read
from fastprune.app.data.table import Cell, Table
from fastprune.app.data.types import Split, Turn
from fastprune.errors import UsageError, shown

PROMPTS = (("prompt", "completion"), ("prompt", "response"), ("question", "answer"))
MESSAGES, TEXT = "messages", "text"
ROLES = ("system", "developer", "user", "assistant", "tool")
IDS = ("id", "idx", "guid")


class Form(NamedTuple):
    """Which columns hold the examples.  ``second`` is that of the completions, None without one."""

    first: str
    second: str | None = None
    messages: bool = False

    def __str__(self) -> str:
        if self.second is not None:
            return f"prompts ({self.first!r}) and completions ({self.second!r})"
        return f"{'messages' if self.messages else 'texts'} ({self.first!r})"


def read_all_turns(tables: Mapping[str, Table], wanted: Wanted) -> tuple[dict[str, Read], tuple[str, ...]]:
    """Return every split, and notes on how they were read.

    Raises:
        UsageError: as `read_turns`.
    """
    reads = {role: read_turns(table, wanted) for role, table in tables.items()}
    found = (read.note(tables[role].where) for role, read in reads.items())
    form = form_of(tables["train"] if "train" in tables else next(iter(tables.values())), wanted)
    return reads, (f"the examples are read as {form}", *(note for note in found if note is not None))


def read_turns(table: Table, wanted: Wanted) -> Read:
    """Return the examples of a table.  Rows without anything in their columns are left out.

    Raises:
        UsageError: no column holds such examples, or a row is malformed.  The message has line, column and fix.
    """
    form, left_out = form_of(table, wanted), Counter[str]()
    firsts = table.columns[form.first]
    seconds: Sequence[Cell] = [None] * len(table) if form.second is None else table.columns[form.second]
    rows, turns = [], []
    for i, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
        if first is None and second is None:
            left_out[form.first] += 1
            continue
        if form.messages:
            turns.append(_messages(first, table, i, form.first))
        elif form.second is None:
            turns.append((Turn(TEXT, _text(first, table, i, form.first)),))
        else:
            both = (("prompt", first, form.first), ("completion", second, form.second))
            turns.append(tuple(Turn(role, _text(cell, table, i, name)) for role, cell, name in both))
        rows.append(i if table.origin is None else table.origin[i])
    if not rows:
        raise UsageError(f"{table.where}: no row has anything in column {form.first!r}: name another --text-column.")
    return Read(Split([_question(one) for one in turns], None, rows=rows, ids=_ids(table, wanted, rows), turns=turns),
                left_out)  # fmt: skip


def form_of(table: Table, wanted: Wanted) -> Form:
    """Find the columns, by the user's names or by the usual ones.

    Raises:
        UsageError: there are none, or an option names columns that no language model has.
    """
    names = list(table.columns)
    for option, name in (("label", wanted.label), ("tags", wanted.tags)):
        if name is not None:
            raise UsageError(f"--{option}-column {name}: --task causal-lm learns from texts alone: leave it out.")
    for option, name in (("text", wanted.text), ("pair", wanted.pair), ("id", wanted.id)):
        if name is not None and name not in names:
            raise UsageError(f"{table.where}: no column --{option}-column {name!r}: choose one of {listing(names)}.")
    if wanted.pair is not None:
        first = wanted.text or next((one for one, _ in PROMPTS if one in names), None)
        if first is None:
            raise UsageError(f"{table.where}: --pair-column names completions: name the prompts in --text-column.")
        return Form(first, wanted.pair)
    if wanted.text is not None:
        cells = [cell for cell in table.columns[wanted.text] if cell is not None]
        return Form(wanted.text, messages=wanted.text == MESSAGES or isinstance(next(iter(cells), None), list))
    if MESSAGES in names:
        return Form(MESSAGES, messages=True)
    both = next((both for both in PROMPTS if set(both) <= set(names)), None)
    if both is not None:
        return Form(*both)
    if TEXT in names:
        return Form(TEXT)
    raise UsageError(
        f"{table.where}: no columns prompt and completion, no messages and no text, only {listing(names)}: name them "
        "with --text-column (prompts, messages or texts) and --pair-column (completions)."
    )


def _text(cell: Cell, table: Table, row: int, column: str) -> str:
    """Return a text as it is, with its blanks."""
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        raise UsageError(f"{table.place(row)}: column {column!r} is empty: fill it in, or remove the row.")
    if not isinstance(cell, str):
        raise UsageError(
            f"{table.place(row)}: column {column!r} holds a list: write one text, or all turns in a column 'messages'."
        )
    return cell


def _messages(cell: Cell, table: Table, row: int, column: str) -> tuple[Turn, ...]:
    """Return the messages of one example."""
    fix = 'write [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]'
    found: object = cell
    if isinstance(cell, str):  # as csv files hold it
        try:
            found = json.loads(cell)
        except (ValueError, RecursionError):
            found = None
    if not isinstance(found, list) or not found:
        raise UsageError(
            f"{table.place(row)}: column {column!r} holds {shown(cell, 30)}, and no list of messages: {fix}."
        )
    turns = tuple(_message(one, f"{table.place(row)}: column {column!r}, message {n}", fix)
                  for n, one in enumerate(found, start=1))  # fmt: skip
    if turns[-1].role != "assistant":
        raise UsageError(
            f"{table.place(row)}: column {column!r} ends with a message of {turns[-1].role!r}: end it with the answer, "
            "a message of 'assistant'."
        )
    return turns


def _message(one: object, where: str, fix: str) -> Turn:
    try:
        message = json.loads(one) if isinstance(one, str) else one
        if not isinstance(message, dict):
            raise TypeError
        role, content = message["role"], message["content"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UsageError(f"{where}: {shown(one, 40)} has no role and content: {fix}.") from None
    if role not in ROLES:
        raise UsageError(f"{where}: the role is {shown(role, 30)}: choose one of {', '.join(ROLES)}.")
    if not isinstance(content, str) or (role == "assistant" and not content.strip()):
        raise UsageError(f"{where}: the content is {shown(content, 30)}: write it as a text.")
    return Turn(role, content)


def _question(turns: Sequence[Turn]) -> str:
    """Return what stands for an example where one text is shown, and what keeps examples together in one split."""
    asked = [turn.text for turn in turns[:-1] if turn.text.strip()]
    return asked[-1] if asked else turns[-1].text


def _ids(table: Table, wanted: Wanted, rows: Sequence[int]) -> list[str] | None:
    column = wanted.id or next((name for name in table.columns if name.lower() in IDS), None)
    if column is None:
        return None
    places = {origin: i for i, origin in enumerate(table.origin)} if table.origin is not None else None
    cells = [table.columns[column][row if places is None else places[row]] for row in rows]
    return ["" if cell is None else cell if isinstance(cell, str) else " ".join(cell) for cell in cells]
