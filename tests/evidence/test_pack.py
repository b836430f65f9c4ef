"""The packed folder needs nothing beside it, and gives the same results."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.made_up_lines import line_of
from helpers.tiny_runs import tiny_run
from test_runner import PATIENCE, PLAN, what_was_trained

from benchmarks.evidence import pack
from benchmarks.evidence.plan import read_plan
from benchmarks.evidence.results import append, file_of, read_all, read_lines
from benchmarks.evidence.work import Place, Work
from fastprune import _core

pytest.importorskip("seqeval")


@pytest.fixture
def plan_file(tmp_path) -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(PLAN.replace("EPOCHS", "2"))
    return path


@pytest.fixture
def work(data_folder, tiny_model, tmp_path, one_thread) -> Work:
    return Work(Place("cpu", 1, data_folder, tmp_path / "cache", tiny_model))


def test_a_packed_folder_gives_the_same_line_without_the_data(work, plan_file, tmp_path):
    target, results, out = tmp_path / "pack", tmp_path / "results", tmp_path / "out"
    append(file_of("some-cpu", results), line_of(tiny_run("full")))
    core = Path(_core.__file__)  # so that nothing is compiled
    size = pack.make_pack(target, work, read_plan(plan_file), plan_file, results, [core])
    assert size == pack.size_of(target) <= pack.MOST_BYTES
    assert [path.name for path in target.rglob("*.so")] == [core.name]
    assert not list(target.rglob("__pycache__"))
    assert len(read_all(target / "known")) == 1

    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OUT": str(out), "PYTHON": sys.executable, "WORKERS": "1", "EVIDENCE_DATA": "/nowhere"}
    command = ["bash", str(target / "lent.sh"), "600", "cpu"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, timeout=PATIENCE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = out.glob("*.jsonl")
    (line,) = read_lines(path)
    (planned,) = read_plan(plan_file).runs
    with torch.random.fork_rng():
        here = work.line(planned.run)
    assert what_was_trained(line) == what_was_trained(here)
    assert line["commits"] == here["commits"]


def test_what_is_too_large_is_refused_and_leaves_nothing(work, plan_file, tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "MOST_BYTES", 1000)
    with pytest.raises(RuntimeError, match="MiB"):
        pack.make_pack(tmp_path / "pack", work, read_plan(plan_file), plan_file, tmp_path / "results")
    assert not list(tmp_path.glob("*pack*"))
