"""The page is made with results and without."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gpu import report
from helpers import made_up_call
from helpers.made_up_call import KERNELS


def written(path: Path, found: list) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in found) + '{"kind": "torn')
    return path


def test_without_results_every_measured_column_says_so() -> None:
    page = report.page(made_up_call.predictions(), [], KERNELS)
    assert page.count(report.NOT_YET) == 2 * 2  # two lines, two kinds of machine
    assert "nothing on this page was measured" in page and "no kernels have figures yet" in page
    assert f"gpu_check.sh {report.LONG}" in page


def test_results_fill_the_column_of_their_machine(tmp_path: Path) -> None:
    runs = report.runs_of([written(tmp_path / "gpu-made-up.jsonl", made_up_call.call())])
    page = report.page(made_up_call.predictions(), runs, KERNELS)
    lines = page.splitlines()
    el2n, loss = (
        next(line for line in lines if line.startswith(f"| {what} |")) for what in ("el2n", "loss step with el2n")
    )
    assert "0.75 (+7%)" in el2n and el2n.count(report.NOT_YET) == 1  # the H200's
    assert "2.2 (+120%!)" in loss
    assert "made-up H100" in page and "| **no** |" in page
    assert "the present kernels have figures" in page
    assert f"gpu_check.sh {report.SHORT}" in page


def test_what_older_kernels_took_stands_beside_no_prediction(tmp_path: Path) -> None:
    runs = report.runs_of([written(tmp_path / "gpu-older.jsonl", made_up_call.call(kernels="olderkernels"))])
    page = report.page(made_up_call.predictions(), runs, KERNELS)
    assert page.count(report.NOT_YET) == 2 * 2
    assert "Of older kernels, olderkernels" in page
    assert "the figures are of older kernels alone (olderkernels)" in page
    assert f"gpu_check.sh {report.LONG}" in page


def test_a_rehearsal_counts_for_nothing(tmp_path: Path) -> None:
    toy = written(tmp_path / "gpu-toy.jsonl", made_up_call.call(device="cpu"))
    assert report.runs_of([toy]) == []


@pytest.mark.parametrize(("kernels", "call"), [(KERNELS, report.SHORT), ("otherkernels", report.LONG)])
def test_the_long_call_is_due_until_these_kernels_have_figures(tmp_path: Path, kernels: str, call: str) -> None:
    runs = report.runs_of([written(tmp_path / "gpu-made-up.jsonl", made_up_call.call())])
    assert call in report.which(runs, kernels)


def test_figures_need_more_than_a_call_that_began(tmp_path: Path) -> None:
    runs = report.runs_of([written(tmp_path / "gpu-broken.jsonl", made_up_call.call()[:3])])
    assert report.LONG in report.which(runs, KERNELS)


def test_predictions_of_other_kernels_are_marked() -> None:
    page = report.page(made_up_call.predictions(), [], "otherkernels")
    assert f"They are of kernels {KERNELS}: make them again" in page
