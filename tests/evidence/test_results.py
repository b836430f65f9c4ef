"""Lines are whole or absent, merging twice adds nothing, and a newer rule makes old lines unfinished."""

from __future__ import annotations

import json

import pytest
from helpers.made_up_lines import line_of
from helpers.tiny_runs import tiny_run

from benchmarks.evidence import results
from fastprune.methods import ScoreMethod

RUNS = [tiny_run("full"), tiny_run("el2n-free", budget=0.5), tiny_run("rs2", budget=0.5, warmup_epochs=0)]
LINES = [line_of(run) for run in RUNS]


def test_lines_come_back_in_order(tmp_path):
    path = tmp_path / "some" / "cpu.jsonl"
    assert results.read_lines(path) == []
    for line in LINES:
        results.append(path, line)
    assert results.read_lines(path) == LINES


def test_half_a_line_is_no_line_and_spoils_no_other(tmp_path):
    path = tmp_path / "cpu.jsonl"
    results.append(path, LINES[0])
    with path.open("a") as file:
        file.write(json.dumps(LINES[1])[:40])
    assert results.read_lines(path) == LINES[:1]
    results.append(path, LINES[2])
    assert results.read_lines(path) == [LINES[0], LINES[2]]


def test_half_a_first_line_is_dropped_too(tmp_path):
    path = tmp_path / "cpu.jsonl"
    path.write_text('{"key": "12')
    assert results.read_lines(path) == []
    results.append(path, LINES[0])
    assert results.read_lines(path) == LINES[:1]


def test_merging_again_adds_nothing(tmp_path):
    target, other = tmp_path / "results", tmp_path / "gpu-out.jsonl"
    lines = [*LINES, line_of(RUNS[0], kind="some-gpu")]
    for line in lines:
        results.append(other, line)
    results.append(results.file_of("some-cpu", target), LINES[1])
    assert results.merge_files([other], target) == {"some-cpu": 2, "some-gpu": 1}
    once = {path.name: path.read_bytes() for path in target.iterdir()}
    assert results.merge_files([other, other], target) == {"some-cpu": 0, "some-gpu": 0}
    assert {path.name: path.read_bytes() for path in target.iterdir()} == once
    assert results.read_lines(results.file_of("some-cpu", target)) == [LINES[1], LINES[0], LINES[2]]


def test_a_newer_rule_makes_lines_unfinished(monkeypatch):
    assert results.finished(LINES) == {run.key for run in RUNS}
    monkeypatch.setattr(ScoreMethod, "rule_version", 99)
    assert results.finished(LINES) == {RUNS[0].key, RUNS[2].key}


def test_a_newer_loop_makes_all_lines_unfinished(monkeypatch):
    monkeypatch.setattr(results, "LOOP_VERSION", results.LOOP_VERSION + 1)
    assert results.finished(LINES) == set()


def test_another_number_of_threads_is_another_result(tmp_path):
    path = tmp_path / "cpu.jsonl"
    two = line_of(RUNS[0], threads=2)
    assert results.merge(path, [LINES[0], two]) == 2
    assert results.is_from(two, "some-cpu", 2) and not results.is_from(two, "some-cpu", 1)


def test_a_line_of_a_newer_rule_is_merged_beside_the_old_one(tmp_path):
    newer = {**LINES[0], "rule_version": LINES[0]["rule_version"] + 1}
    path = tmp_path / "cpu.jsonl"
    assert results.merge(path, [LINES[0], newer, LINES[0]]) == 2


@pytest.mark.parametrize("method", ["full", "el2n", "el2n-free", "rs2", "infobatch"])
def test_every_method_has_a_rule_version(method):
    from benchmarks.evidence.spec import method_of

    assert method_of(tiny_run(method)).rule_version >= 1
