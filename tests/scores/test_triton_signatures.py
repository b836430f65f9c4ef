"""What makes the Triton kernels readable: few parameters, and pointers that say what they point to."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastprune.scores.definition import METRICS

ROOT = Path(__file__).parents[2] / "fastprune"
FILES = sorted(ROOT.glob("*/triton_*.py"))
MOST = {"kernel": 22, "helper": 16}


def jitted(path: Path) -> Iterator[ast.FunctionDef]:
    """The functions of a file that Triton compiles."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and any("jit" in ast.unparse(d) for d in node.decorator_list):
            yield node


def test_every_file_with_kernels_is_looked_at() -> None:
    names = {function.name for path in FILES for function in jitted(path)}
    assert {"short_rows_kernel", "long_rows_kernel", "merge_kernel", "segment_sums", "digit_kernel"} <= names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_function_takes_too_many_parameters(path: Path) -> None:
    for function in jitted(path):
        kind = "kernel" if function.name.endswith("_kernel") else "helper"
        assert len(function.args.args) <= MOST[kind], function.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_pointer_of_a_kernel_says_whether_it_is_read_or_written_its_shape_and_its_type(path: Path) -> None:
    """Pointers come first, up to the first number, which says how many rows, classes or programs there are."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for function in jitted(path):
        if not function.name.endswith("_kernel"):
            continue
        for argument in function.args.args:
            if argument.arg in ("rows", "classes", "stride", "programs"):
                break
            comment = lines[argument.lineno - 1].partition("#")[2]
            assert re.match(r" (IN|OUT|INOUT) +\(.*\) .*(fp32|int|contiguous)", comment), (function.name, argument.arg)


def test_every_metric_of_the_kernels_has_a_bit() -> None:
    pytest.importorskip("triton")
    from fastprune.scores import triton_results

    assert triton_results.in_order(tuple(reversed(METRICS))) == METRICS
    assert triton_results.bits_of((*METRICS, *METRICS)) == 2 ** len(METRICS) - 1
