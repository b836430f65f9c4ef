"""The console script sets what counts only before torch is loaded, and leaves what the user has set."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import fastprune_command
from fastprune_command import SPINS, give_way, keep_freed_memory


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_threads_give_way_unless_the_user_says_how_they_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    give_way()
    assert os.environ["GOMP_SPINCOUNT"] == SPINS
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    give_way()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    give_way()
    assert "GOMP_SPINCOUNT" not in os.environ


def test_freed_memory_is_kept_unless_the_user_says_what_becomes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []

    class Library:
        def __init__(self, name: None) -> None:
            self.mallopt = lambda *values: told.append(values)

    monkeypatch.setattr(fastprune_command.ctypes, "CDLL", Library)
    keep_freed_memory()
    assert told == [(-4, 0), (-1, 2**31 - 1)]
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "100000")
    keep_freed_memory()
    assert len(told) == 2


def test_neither_is_done_on_import() -> None:
    program = (
        "import os, fastprune_command, sys; assert 'torch' not in sys.modules and 'GOMP_SPINCOUNT' not in os.environ"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
