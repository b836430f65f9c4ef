"""Tables pair runs of one machine only, leave old rules out, and say what was measured."""

from __future__ import annotations

import pytest
from helpers.made_up_lines import line_of
from helpers.tiny_runs import tiny_run
from test_timemodel import calibration

from benchmarks.evidence.compare import pair, tables
from benchmarks.evidence.results import append, file_of
from benchmarks.evidence.table import calibration_note, write_table
from benchmarks.evidence.timemodel import write_calibration
from fastprune.methods import ScoreMethod

FULL = [line_of(tiny_run("full", seed=seed), figure=0.8 + 0.02 * seed) for seed in (0, 1)]
FREE = [line_of(tiny_run("el2n-free", budget=0.5, seed=s), figure=0.79 + 0.04 * s, scale=0.5) for s in (0, 1)]


@pytest.mark.parametrize(("name", "value"), [("kind", "other-cpu"), ("threads", 2), ("precision", "bf16")])
def test_runs_of_different_machines_are_not_paired(name, value):
    moved = {**FREE[0], "machine": {**FREE[0]["machine"], name: value}}
    with pytest.raises(ValueError, match=f"runs of {name} .* are not compared"):
        pair(FULL[0], moved, {})
    assert all(not row.pairs for table in tables([FULL[0], moved], {}) for row in table.rows)
    assert len(tables([FULL[0], moved], {})) == 2, "they share a table"


def test_runs_of_different_seeds_are_not_paired():
    with pytest.raises(ValueError, match="different settings"):
        pair(FULL[0], FREE[1], {})


def test_a_row_is_the_mean_over_seeds_of_the_differences_to_full():
    (table,) = tables([*FULL, *FREE], {})
    full, free = table.rows
    assert (full.label, free.label, free.budget) == ("full", "el2n-free", 0.5)
    assert full.figures == pytest.approx([80, 82]) and free.figures == pytest.approx([79, 83])
    assert [p.points for p in free.pairs] == pytest.approx([-1, 1])
    assert free.mean("points") == pytest.approx(0)
    assert free.mean("examples") == pytest.approx(0.5)
    assert free.mean("cpu") == pytest.approx(1.6 / 3.1)
    assert free.mean("seconds") is None and free.mean("points") is not None


def test_a_scored_token_counts_as_a_third_of_a_trained_one():
    scored = {**FREE[0]["counts"], "score": {**FREE[0]["counts"]["score"], "padded_tokens": 3 * 512}}
    assert pair(FULL[0], {**FREE[0], "counts": scored}, {}).padded == pytest.approx(0.5 + 512 / 5120)


def test_time_comes_from_the_calibration():
    (table,) = tables([*FULL, *FREE], {"some-cpu": calibration()})
    # The curve of steps with scores is twice that of steps, and half as many examples were read.
    base = 320 * 8 * 1e-3 + 160 * 16 * 0.75e-3
    assert table.rows[1].mean("seconds") == pytest.approx((base + 0.1) / (base + 0.1))


def test_lines_of_an_older_rule_are_left_out(monkeypatch):
    monkeypatch.setattr(ScoreMethod, "rule_version", 99)
    (table,) = tables([*FULL, *FREE], {})
    assert [row.label for row in table.rows] == ["full"]


def test_tuning_is_left_out():
    assert tables([line_of(tiny_run("full", split="validation"))], {}) == []


def test_a_run_without_full_has_no_difference():
    (table,) = tables([FULL[0], *FREE], {})
    assert len(table.rows[1].figures) == 2 and len(table.rows[1].pairs) == 1


def test_the_page_and_its_picture(tmp_path):
    pytest.importorskip("matplotlib")
    for line in [*FULL, *FREE]:
        append(file_of("some-cpu", tmp_path), line)
    page, picture = write_table(tmp_path)
    row = next(line for line in page.read_text().splitlines() if line.startswith("| el2n-free | 0.5"))
    assert row == "| el2n-free | 0.5 | 81.0 ± 2.8 | +0.0 ± 1.4 | 50 | 50 |  | 52 | 2 |"
    assert "not calibrated yet" in page.read_text()
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.name in page.read_text()
    write_calibration({**calibration(), "confirmed": [{"error": -0.031}]}, tmp_path)
    write_table(tmp_path)
    text = page.read_text()
    assert "1 whole runs were off by at most 3.1 %" in text and "beside" not in text.split("Calibrated")[1]
    assert "The first batch at each width takes longer; this calibration takes it for one like the others." in text


def test_the_page_says_how_runs_were_confirmed():
    rows = [
        {"error": -0.031, "slower": 1.1, "error_of_the_file": 0.012},
        {"error": 0.011, "slower": 0.9, "error_of_the_file": -0.046},
    ]
    note = calibration_note({**calibration(), "first": {}, "confirmed": rows})
    assert "2 whole runs, each by figures measured beside it, were off by at most 3.1 %" in note
    assert "at the machine's speed of that time, by at most 4.6 %" in note
    assert "first batch" not in note
