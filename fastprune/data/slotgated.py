"""Joint intent and slot folders in the SlotGated form.

``<folder>/{train,test}`` and optionally one of ``valid``, ``validation``, ``dev``; each holds
``seq.in`` (one sentence a line), ``seq.out`` (its BIO tags) and ``label`` (its intent).  A label such
as ``a#b`` is one class.  Folders without any ``seq.out`` are plain classification.
"""

from __future__ import annotations

from pathlib import Path

from fastprune.data.files import read_text
from fastprune.data.types import Split, TextData, build, check_tags, clean_text
from fastprune.errors import UsageError

VALIDATION_NAMES = ("valid", "validation", "dev")
FILES = ("seq.in", "seq.out", "label")


def load_slotgated(folder: Path) -> TextData:
    """Read a SlotGated folder; raises `UsageError` naming the file and line that is wrong."""
    for role in ("train", "test"):
        if not (folder / role).is_dir():
            raise UsageError(f"{folder}: no folder '{role}' in it: a SlotGated data set has train/ and test/.")
    validation_folders = [folder / name for name in VALIDATION_NAMES if (folder / name).is_dir()]
    if len(validation_folders) > 1:
        names = " and ".join(f"{path.name}/" for path in validation_folders)
        raise UsageError(f"{folder}: holds {names}: keep one validation folder.")
    folders = [folder / "train", folder / "test", *validation_folders]
    joint = any((path / "seq.out").exists() for path in folders)
    train, test, *rest = (_read_split(path, joint) for path in folders)
    return build(folder.name, train, rest[0] if rest else None, test)


def slotgated_files(folder: Path) -> list[Path]:
    """Every file that such a folder may have."""
    return [folder / role / name for role in ("train", "test", *VALIDATION_NAMES) for name in FILES]


def _read_split(folder: Path, joint: bool) -> Split:
    text_lines = _read_lines(folder / "seq.in")
    intents = _read_lines(folder / "label")
    _check_same_length(folder / "seq.in", text_lines, folder / "label", intents)
    texts = [clean_text(line) for line in text_lines]
    intents = [line.strip() for line in intents]
    _check_not_empty(folder / "seq.in", texts)
    _check_not_empty(folder / "label", intents)
    if not joint:
        return Split(texts, intents, None)

    tag_lines = _read_lines(folder / "seq.out")
    _check_same_length(folder / "seq.in", text_lines, folder / "seq.out", tag_lines)
    slots = [line.split() for line in tag_lines]
    for number, (text, tags) in enumerate(zip(texts, slots, strict=True), start=1):
        check_tags(text, tags, f"{folder / 'seq.out'}, line {number}")
    return Split(texts, intents, slots)


def _read_lines(path: Path) -> list[str]:
    # Not splitlines(): it also cuts at rare Unicode line marks, which may occur inside a sentence.
    lines = read_text(path).replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _check_same_length(first: Path, a: list[str], second: Path, b: list[str]) -> None:
    if len(a) != len(b):
        raise UsageError(f"{second}: {len(b)} lines, but {first} has {len(a)}: give one line per sentence.")


def _check_not_empty(path: Path, lines: list[str]) -> None:
    for number, line in enumerate(lines, start=1):
        if not line:
            raise UsageError(f"{path}, line {number}: empty: remove the line from all files or fill it in.")
