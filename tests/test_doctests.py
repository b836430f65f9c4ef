"""The examples in the docstrings run, and every public name has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import random
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from test_public_names import PUBLIC

import fastprune

ROOT = Path(fastprune.__file__).parent
WITH_EXAMPLES = sorted(
    "fastprune." + ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in ROOT.rglob("*.py")
    if ">>> " in path.read_text()
)
EXTRAS = {
    "fastprune.integrations.accelerate": ["accelerate"],
    "fastprune.integrations.lightning": ["lightning"],
    "fastprune.integrations.trainer": ["transformers", "accelerate"],
    "fastprune.models": ["transformers"],
}
"""What the examples of a module, and of those below it, need beside the core's dependencies."""


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, registry_of_its_own: None) -> Iterator[None]:
    """Examples register methods, draw from global generators and may write files. Other tests see none of it."""
    monkeypatch.chdir(tmp_path)
    python, numpy, state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(state)


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name: str) -> None:
    for module, extras in EXTRAS.items():
        if name == module or name.startswith(f"{module}."):
            for extra in extras:
                pytest.importorskip(extra)
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert found.attempted and not found.failed


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_has_an_example_that_uses_it(module: str) -> None:
    """Functions and classes have it in their docstring, and a table in that of its class or of its module."""
    pytest.importorskip("transformers")
    pytest.importorskip("lightning")
    there = importlib.import_module(module)
    without = []
    for name in PUBLIC[module]:
        public = getattr(there, name)
        if inspect.isroutine(public) or inspect.isclass(public):
            texts = [public.__doc__]
        elif isinstance(public, Mapping):
            texts = [public.__doc__, there.__doc__]
        else:  # a constant, or the name of a type
            continue
        examples = [found for text in texts for found in doctest.DocTestParser().get_examples(text or "")]
        if not any(name in example.source for example in examples):
            without.append(name)
    assert not without, "write an `Example:` section into their docstrings"
