"""Measures how plain the prose of docstrings and pages is, room by room.

Two numbers count.  The first is semicolons in 1,000 words.  The second is the share of sentences with at most 25 words.
Code does not count: doctests, literal blocks, formulas, tables and fences are left out, and an inline literal is one
word.

    python .ci/prose.py [FOLDER] [--limit] [--show ROOM]
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST_WORDS = 25
MOST_SEMICOLONS = 5.0
LEAST_SHARE = 95.0
PAGES = ("*.md", "docs/*.md", "docs/start/*.md", "docs/api/*.md", "benchmarks/README.md")

WORD = re.compile(r"[^\W_][\w'’.,/-]*")
LITERAL = re.compile(r"``[^`]+``|`[^`]+`(?:_{1,2})?")
END = re.compile(r"(?<=[.!?…])[)\"”']*\s+(?=[\"“'(*\[]*(?:[A-ZÀ-Ý0-9«τΣ]|fastprune\b))")
ABBREVIATIONS = re.compile(r"\b(e\.g|i\.e|et al|vs|cf|resp|approx|etc|Fig|Eq|No)\.")
SECTION = re.compile(r"(Args|Arguments|Attributes|Raises|Returns|Yields|Note|Notes|Example|Examples|Cost|Memory):\s*$")
ENTRY = re.compile(r"^\*{0,2}\w[\w.*]*(?:, \*{0,2}\w[\w.*]*)*(?: \([^)]*\))?:\s+")
ITEM = re.compile(r"^(?:[*+-]|\d+\.)\s+")


@dataclass(frozen=True)
class Sentence:
    """A sentence and where its paragraph begins."""

    place: str
    text: str

    @property
    def words(self) -> int:
        """How many words it has.  An inline literal is one."""
        return len(WORD.findall(self.text))


@dataclass
class Room:
    """The prose of one room.

    Attributes:
        name: that of the folder.
        sentences: in the order in which they stand.
    """

    name: str
    sentences: list[Sentence] = field(default_factory=list)

    @property
    def words(self) -> int:
        """All words."""
        return sum(sentence.words for sentence in self.sentences)

    @property
    def semicolons(self) -> float:
        """Semicolons in 1,000 words."""
        return 1000 * sum(sentence.text.count(";") for sentence in self.sentences) / max(self.words, 1)

    @property
    def share(self) -> float:
        """Percent of the sentences that have at most `MOST_WORDS` words."""
        long = sum(sentence.words > MOST_WORDS for sentence in self.sentences)
        return 100 - 100 * long / max(len(self.sentences), 1)

    @property
    def passes(self) -> bool:
        """Whether both limits hold."""
        return self.semicolons <= MOST_SEMICOLONS and self.share >= LEAST_SHARE


def rooms(folder: Path) -> list[Room]:
    """Every room of the package, and the pages."""
    found: dict[str, Room] = {}
    for path in sorted((folder / "fastprune").rglob("*.py")):
        where = path.relative_to(folder)
        name = where.parts[1] if len(where.parts) > 2 else "fastprune/*.py"
        room = found.setdefault(name, Room(name))
        for line, text in docstrings(path.read_text(encoding="utf-8")):
            room.sentences += sentences(where.as_posix(), line, paragraphs(text))
    pages = Room("pages")
    for path in sorted({path for pattern in PAGES for path in folder.glob(pattern)}):
        where = path.relative_to(folder).as_posix()
        pages.sentences += sentences(where, 1, markdown(path.read_text(encoding="utf-8")))
    return [*found.values(), pages]


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """The first line and the text of every docstring, also of those below an attribute."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, inspect.cleandoc(node.value.value)


def sentences(where: str, line: int, found: Iterator[tuple[int, str]]) -> Iterator[Sentence]:
    """The sentences of the paragraphs of a text that begins at ``line`` of the file ``where``."""
    for offset, paragraph in found:
        text = ABBREVIATIONS.sub(r"\1", LITERAL.sub("Literal", paragraph))
        for sentence in END.split(text):
            if WORD.search(sentence):
                yield Sentence(f"{where}:{line + offset}", sentence.strip())


def paragraphs(text: str) -> Iterator[tuple[int, str]]:
    """The paragraphs, list items and entries of a docstring, each with the offset of its first line.

    Doctests and what follows "::" are code.  What is indented deeper than the text around it is code or a formula,
    unless it stands in a Google section.
    """
    section = doctest = literal = False
    start, held = 0, []  # type: int, list[str]
    for number, line in enumerate([*text.splitlines(), ""]):
        stripped, indent = line.strip(), len(line) - len(line.lstrip())
        heading = bool(SECTION.match(stripped))
        doctest = bool(stripped) and (doctest or stripped.startswith(">>>"))
        if stripped and indent == 0:
            section, literal = heading, False
        entry = section and indent == 4 and bool(ENTRY.match(stripped))
        code = doctest or literal or (indent > 0 and not section and not held)
        if held and (not stripped or code or heading or entry or ITEM.match(stripped)):
            yield start, " ".join(held)
            literal = held[-1].endswith("::")
            held = []
        if not stripped or code or heading:
            continue
        start = start if held else number
        stripped = ITEM.sub("", stripped)
        held.append(ENTRY.sub("", stripped) if entry else stripped)


def markdown(text: str) -> Iterator[tuple[int, str]]:
    """The paragraphs and list items of a page: no fences, tables, headings, images, directives and addresses."""
    fence: str | None = None
    start, held = 0, []  # type: int, list[str]
    for number, line in enumerate([*text.splitlines(), ""]):
        stripped = line.strip()
        mark = re.match(r"(`{3,}|~{3,}|:{3,})", stripped)
        if mark and (fence is None or stripped == fence):
            prose = fence is None and re.match(r":{3,}\{(note|tip|warning|important)\}", stripped)
            fence = None if fence is not None or prose else mark[1]
            stripped = ""
        outside = fence is None and not re.match(r"[|#]|!\[|<|\([\w-]+\)=$|:{3,}|:\w+:", stripped)
        if held and (not stripped or not outside or ITEM.match(stripped)):
            yield start, " ".join(held)
            held = []
        if stripped and outside:
            start = start if held else number
            held.append(re.sub(r"\]\([^)]*\)", "]", ITEM.sub("", stripped)))


def report(found: Sequence[Room]) -> str:
    """A line for each room."""
    lines = [f"{'room':<16}{'words':>8}{'semicolons/1000':>17}{'sentences <= 25':>17}"]
    for room in found:
        mark = "" if room.passes else "  misses"
        lines.append(f"{room.name:<16}{room.words:>8,}{room.semicolons:>17.1f}{room.share:>16.1f}%{mark}")
    return "\n".join(lines)


def faults(room: Room) -> Iterator[str]:
    """The long sentences of a room, and those with a semicolon."""
    for sentence in room.sentences:
        if sentence.words > MOST_WORDS or ";" in sentence.text:
            yield f"{sentence.place}: {sentence.words} words: {sentence.text}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the numbers, and with ``--limit`` fail where a room misses one."""
    parser = argparse.ArgumentParser(description="how plain the prose of each room is")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT)
    parser.add_argument("--limit", action="store_true", help="fail where a room misses a limit")
    parser.add_argument("--show", metavar="ROOM", action="append", default=[], help="list the sentences at fault")
    options = parser.parse_args(arguments)
    found = rooms(options.folder)
    print(report(found))
    for room in found:
        if room.name in options.show:
            print(*faults(room), sep="\n")
    return int(options.limit and not all(room.passes for room in found))


if __name__ == "__main__":
    sys.exit(main())
