"""Private names of torch: in one module, with a sentence where a torch has none of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from torch._subclasses.fake_tensor import FakeTensorMode

import fastprune
from fastprune.platform import torch_private


def test_a_torch_without_a_private_name_is_told_apart_from_a_bug() -> None:
    with pytest.raises(ImportError, match=r"has no torch._C._gone, which fastprune needs; install one of torch 2.6 to"):
        torch_private._private("_C._gone")
    assert torch_private.dispatch_modes() == 0 and not torch_private.is_forward_mode()
    with FakeTensorMode():
        assert torch_private.dispatch_modes() > 0


def test_private_names_of_torch_stand_in_one_module() -> None:
    """Apart from one in a file whose every change makes committed GPU figures old."""
    package = Path(fastprune.__file__).parent
    private = re.compile(r"torch\._C\b|torch\.[\w.]*\._|forward_ad\._|\._is_zerotensor")
    found = {path.name for path in package.rglob("*.py") if private.search(path.read_text())}
    assert found == {"torch_private.py", "triton_launch.py"}
