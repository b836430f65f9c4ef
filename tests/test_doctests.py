"""The examples in the docstrings, run."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import fastprune

ROOT = Path(fastprune.__file__).parent
WITH_EXAMPLES = sorted(
    "fastprune." + ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in ROOT.rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert found.attempted and not found.failed
