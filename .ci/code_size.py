"""Finds functions, classes and files that have grown too long to hold one idea.

A line counts if it holds code.  Docstrings, comments and blank lines do not count.  What is excepted says why, and an
exception that is no longer needed is a finding, too.

    python .ci/code_size.py [FOLDER]
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST = {"function": 50, "class": 200}
FILES = {"fastprune/pruning/pruner.py": 200}
"""Files that must stay short as a whole."""

KERNEL = "a Triton kernel is compiled as a whole, and most of its lines name its arguments"
GRAMMAR = "one call of argparse an option, nothing to split"
EXCEPTIONS: dict[str, str] = {
    "fastprune/app/cli/finetune.py:add": GRAMMAR,
    "fastprune/scores/triton_gradient.py:long_gradient_kernel": KERNEL,
    "fastprune/scores/triton_gradient.py:short_gradient_kernel": KERNEL,
    "fastprune/scores/triton_short_rows.py:short_rows_kernel": KERNEL,
    "fastprune/scores/triton_long_rows.py:long_rows_kernel": KERNEL,
    "fastprune/scores/triton_long_rows.py:merge_kernel": KERNEL,
    "fastprune/scores/triton_segment.py:segment_sums": KERNEL,
    "fastprune/selection/triton_topk.py:select_kernel": KERNEL,
}

_LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING,
           tokenize.ENDMARKER}  # fmt: skip
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Part:
    """A function, a class or a file, and how many lines of code it has."""

    kind: str
    name: str
    line: int
    lines: int


def code_lines(source: str, tree: ast.Module) -> set[int]:
    """The numbers of the lines on which code stands."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _LAYOUT:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        # A string that is a statement documents something: a module, a class, a function, or the name before it.
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def parts(source: str) -> Iterator[Part]:
    """Every function and class of a source, also those within others, which count in both."""
    tree = ast.parse(source)
    lines = code_lines(source, tree)
    yield Part("file", "", 1, len(lines))
    yield from _within(tree, "", lines)


def findings(folder: Path, exceptions: Mapping[str, str] = EXCEPTIONS, files: Mapping[str, int] = FILES) -> list[str]:
    """What is too long in ``folder``, and the exceptions that nothing needs."""
    found, needed = [], set()
    for path in sorted((folder / "fastprune").rglob("*.py")):
        where = path.relative_to(folder).as_posix()
        for part in parts(path.read_text(encoding="utf-8")):
            most = files.get(where) if part.kind == "file" else MOST[part.kind]
            if most is None or part.lines <= most:
                continue
            key = f"{where}:{part.name}" if part.name else where
            needed.add(key)
            if key not in exceptions:
                found.append(
                    f"{where}:{part.line}: {part.kind} {part.name or where} has {part.lines} lines of code, more than "
                    f"{most}; split it by ideas, or except it in .ci/code_size.py with a reason"
                )
    return found + [
        f"{key} is excepted in .ci/code_size.py and need not be; take it out" for key in exceptions if key not in needed
    ]


def _within(node: ast.AST, outer: str, lines: set[int]) -> Iterator[Part]:
    for child in ast.iter_child_nodes(node):
        name = outer
        if isinstance(child, (ast.ClassDef, *_FUNCTIONS)):
            name = f"{outer}.{child.name}" if outer else child.name
            first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
            own = lines.intersection(range(first, (child.end_lineno or first) + 1))
            yield Part("class" if isinstance(child, ast.ClassDef) else "function", name, child.lineno, len(own))
        yield from _within(child, name, lines)


if __name__ == "__main__":
    said = findings(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
    print(*said, sep="\n", end="\n" if said else "")
    sys.exit(bool(said))
