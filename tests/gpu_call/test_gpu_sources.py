"""Which changes make figures old; what is carried; what a rehearsal finds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fastprune._core
import pytest
from gpu import carry, rehearse, sources, torch_functions
from gpu.plan import STEPS
from helpers.made_up_call import record

CODE = '''"""What it is."""

import torch


def double(x):
    """Twice x."""
    # a comment
    y = "a string"
    return x * 2
'''


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("Twice x.", "Two times x.", True),
        ("# a comment", "# another", True),
        ("    # a comment\n", "\n\n", True),
        ("What it is.", "What it was.", True),
        ("x * 2", "x * 3", False),
        ('"a string"', '"another"', False),
    ],
)
def test_only_code_changes_the_digest(old: str, new: str, same: bool) -> None:
    assert old in CODE
    assert (sources.code_of(CODE) == sources.code_of(CODE.replace(old, new))) is same


def test_indentation_is_code() -> None:
    one, other = "if a:\n    b()\nc()\n", "if a:\n    b()\n    c()\n"
    assert sources.code_of(one) != sources.code_of(other)


def test_the_digest_is_of_every_kernel() -> None:
    found = {str(p.relative_to(sources.ROOT)) for p in sources.ROOT.glob("fastprune/*/triton_*.py")}
    assert found <= set(sources.KERNELS)
    assert len(sources.digest()) == 12


def test_a_moved_cache_has_its_own_paths(tmp_path: Path) -> None:
    entry = tmp_path / "HASH"
    entry.mkdir()
    group = entry / "__grp__kernel.json"
    group.write_text(json.dumps({"child_paths": {"kernel.cubin": "/elsewhere/HASH/kernel.cubin"}}))
    carry.relocate(tmp_path)
    assert json.loads(group.read_text()) == {"child_paths": {"kernel.cubin": str(entry / "kernel.cubin")}}


def test_a_carried_extension_is_taken_only_if_it_is_of_these_sources_and_loads(tmp_path: Path) -> None:
    (tmp_path / "fastprune").mkdir()
    (tmp_path / "setup.py").write_text("")
    assert not carry.install_core(tmp_path)  # none is carried
    folder = tmp_path / ".gpu" / "core" / sources.core_digest(tmp_path)
    folder.mkdir(parents=True)
    (folder / carry.EXTENSION).write_bytes(b"built for another machine")
    assert not carry.install_core(tmp_path)
    assert not (tmp_path / "fastprune" / carry.EXTENSION).exists()
    shutil.copy(fastprune._core.__file__, folder / carry.EXTENSION)
    assert carry.install_core(tmp_path)
    (tmp_path / "setup.py").write_text("# other flags")
    (tmp_path / "fastprune" / carry.EXTENSION).unlink()
    assert not carry.install_core(tmp_path)


def test_the_digest_of_the_core_sees_every_folder_of_its_sources(tmp_path: Path) -> None:
    (tmp_path / "setup.py").write_text("")
    header = tmp_path / "csrc" / "platform" / "parallel.h"
    header.parent.mkdir(parents=True)
    header.write_text("one")
    before = sources.core_digest(tmp_path)
    header.write_text("another")
    assert sources.core_digest(tmp_path) != before


def test_names_of_torch_are_found_wherever_they_stand() -> None:
    source = "from torch.utils.data import Subset\nimport torch\nF.softmax(torch.cuda.Event())\nx.amax(1).other()\n"
    names = set(torch_functions.names_in(source, frozenset({"amax", "softmax"})))
    assert names == {
        "torch.utils.data.Subset",
        "torch.nn.functional.softmax",
        "torch.cuda.Event",
        "Tensor.amax",
    }


def right() -> list[dict]:
    return [record("step", step=step.name, status="ok", why="", seconds=1.0) for step in STEPS]


def test_a_rehearsal_in_which_all_is_right() -> None:
    assert rehearse.complaints([("results.jsonl", 10), ("log.txt", 10)], right(), "short") == []


@pytest.mark.parametrize(
    ("files", "found", "output", "complaint"),
    [
        ([(f"{i}.txt", 1) for i in range(9)], right(), "", "9 files"),
        ([("large.txt", 2**25)], right(), "", "large.txt has"),
        ([("a/b/c/deep.txt", 1)], right(), "", "deep.txt would not come back"),
        ([("a name.txt", 1)], right(), "", "a name.txt would not come back"),
        ([], right()[:-1], "", "step counters: never came"),
        ([], [*right(), record("step", step="speed", status="killed", why="late", seconds=1.0)], "", "speed: killed"),
        ([], [*right(), record("accuracy", step="accuracy", case="7", ok=False)], "", "accuracy, 7"),
        ([], [*right(), record("speed", step="speed", ms={"liger": "no kernel"})], "", "liger failed"),
        ([], right(), "x" * 10_001, "10001 characters"),
    ],
)
def test_a_rehearsal_finds_what_would_be_lost(files: list, found: list, output: str, complaint: str) -> None:
    wrong = rehearse.complaints(files, found, output)
    assert len(wrong) == 1 and complaint in wrong[0]
