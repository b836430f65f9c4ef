"""A run is halted while other batches are measured, and its own time does not count them."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import torch
from helpers import forked
from helpers.tiny_runs import tiny_run

from benchmarks.evidence import confirm
from benchmarks.evidence.confirm import HaltingClock, run_beside
from benchmarks.evidence.work import Place


def test_a_halted_clock_stands_still():
    clock = HaltingClock()
    start, wall = clock(), time.perf_counter()
    with clock.halted():
        time.sleep(0.2)
    counted, passed = clock() - start, time.perf_counter() - wall
    assert passed >= 0.2 and counted <= passed - 0.2


def test_a_run_halts_again_and_again_and_counts_its_work_alone(data_folder, tiny_model, tmp_path, monkeypatch):
    """The run's process is a copy of one that has imported everything, and not a new one."""
    monkeypatch.setattr(confirm, "multiprocessing", SimpleNamespace(get_context=lambda kind: forked.context()))
    place = Place("cpu", torch.get_num_threads(), data_folder, tmp_path, tiny_model)
    began: list[float] = []

    def measure():
        began.append(time.perf_counter())
        time.sleep(0.1)
        return {("step", 8): 0.1}

    counts, rounds = run_beside(place, tiny_run("el2n", epochs=2, budget=0.8), measure, every=0.0)
    batches = counts["train"]["batches"] + counts["score"]["batches"]
    assert counts["train"]["examples"] > 81 and counts["score"]["examples"] == 81
    # Before the run, after each batch, and after the run.
    assert len(rounds) == 1 + batches + 1
    took = began[-1] - began[0]
    assert sum(counts["cpu_seconds"].values()) <= took - 0.1 * (len(rounds) - 1)


def test_a_run_that_ends_without_counts_has_failed(monkeypatch):
    monkeypatch.setattr(confirm, "_whole_run", print)
    with pytest.raises(RuntimeError, match="the run of some kind failed"):
        run_beside(None, SimpleNamespace(key="of some kind"), dict)
