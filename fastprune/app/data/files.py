"""Reads a text file, with an error that a user can act on."""

from __future__ import annotations

from pathlib import Path

from fastprune.errors import UsageError


def read_text(path: Path) -> str:
    """Return the file's UTF-8 text without a byte-order mark, with its line ends untouched.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file: check the path or add the file.") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}): check the path and its rights.") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: byte {error.start} is not UTF-8: save the file as UTF-8.") from None


def lines_of(path: Path) -> list[str]:
    """Return the file's lines without their ends.  A last line end does not begin another line.

    Raises:
        UsageError: see `read_text`.
    """
    # Not splitlines(): it also cuts at rare Unicode line marks, which may occur inside a sentence.
    lines = read_text(path).replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines
