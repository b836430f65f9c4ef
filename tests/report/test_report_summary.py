"""Summary rows and the tables made of them."""

import io
from statistics import stdev

import pytest

from fastprune.report import last_epoch_rows, markdown_table, rich_table, summarise


def row(run, seed, total, exact, **more):
    return {
        "run": run,
        "seed": seed,
        "kept": 1.0 if run == "full" else 0.5,
        "train_seconds": total - 2.0,
        "score_seconds": 1.5,
        "select_seconds": 0.5,
        "seconds": total,
        "intent_accuracy": exact,
        "exact_match": exact,
        "examples_seen": 1000 * total,
        **more,
    }


FULL = [row("full", 0, 100.0, 0.90), row("full", 1, 200.0, 0.92)]
HALF = [row("el2n 0.5", 1, 100.0, 0.93, method="el2n"), row("el2n 0.5", 0, 80.0, 0.91, method="el2n")]


def test_means_and_deviations():
    full, half = summarise(FULL + HALF)
    assert (full["run"], half["run"]) == ("full", "el2n 0.5")
    assert (full["method"], half["method"]) == ("full", "el2n")
    assert half["keep_fraction"] == 0.5 and half["seeds"] == [0, 1] and half["n_seeds"] == 2
    assert half["exact_match"] == pytest.approx(0.92)
    assert half["exact_match_std"] == pytest.approx(stdev([0.91, 0.93]))
    assert half["total_seconds"] == 90 and half["train_seconds"] == 88 and half["score_seconds"] == 1.5
    assert half["examples_seen"] == 90_000
    assert "slot_f1" not in half and "cpu_seconds" not in half


def test_time_saved_is_paired_by_seed():
    full, half = summarise(FULL + HALF)
    assert full["time_saved"] is None
    # Seed 0 saves 20 %, seed 1 saves 50 %; the ratio of the means would be 40 %.
    assert half["time_saved"] == pytest.approx(0.35)


def test_time_saved_uses_shared_seeds_only():
    assert summarise([FULL[0], *HALF])[1]["time_saved"] == pytest.approx(0.20)
    assert summarise(HALF)[0]["time_saved"] is None
    assert summarise([row("full", 7, 10.0, 1.0), *HALF])[1]["time_saved"] is None


def test_a_slower_run_saves_less_than_nothing():
    slow = row("slow", 0, 150.0, 0.9)
    assert summarise([FULL[0], slow])[1]["time_saved"] == pytest.approx(-0.5)


def test_one_seed_has_no_deviation():
    (result,) = summarise(FULL[:1])
    assert result["exact_match_std"] is None and result["total_seconds_std"] is None


def test_driver_totals_win_over_the_default():
    (result,) = summarise([row("full", 0, 100.0, 0.9, total_seconds=120.0, cpu_seconds=210.0)])
    assert result["total_seconds"] == 120 and result["cpu_seconds"] == 210


def test_last_epoch_rows():
    metrics = [
        {"run": "full", "seed": 0, "epoch": 1, "split": "test", "x": 1},
        {"run": "full", "seed": 0, "epoch": 2, "split": "test", "x": 2},
        {"run": "full", "seed": 0, "epoch": 3, "split": "validation", "x": 3},
        {"run": "full", "seed": 1, "epoch": 1, "split": "test", "x": 4},
    ]
    assert [r["x"] for r in last_epoch_rows(metrics)] == [2, 4]
    assert [r["x"] for r in last_epoch_rows(metrics, "validation")] == [3]


def test_markdown():
    lines = markdown_table(summarise([FULL[0], HALF[1]])).splitlines()
    assert lines[0] == (
        "| Run | Method | Kept % | Intent % | Exact % | Train s | Score s | Select s | Total s | Saved % | Examples |"
    )
    assert lines[1].startswith("| --- | --- | ---: | ---: |")
    assert lines[2] == "| full | full | 100 | 90.00 | 90.00 | 98.0 | 1.5 | 0.5 | 100.0 | – | 100,000 |"
    assert lines[3] == "| el2n 0.5 | el2n | 50 | 91.00 | 91.00 | 78.0 | 1.5 | 0.5 | 80.0 | 20.0 | 80,000 |"
    assert len(lines) == 4


def test_markdown_shows_deviations_and_slots_when_there_are_any():
    rows = [{**r, "slot_f1": 0.5} for r in FULL]
    table = markdown_table(summarise(rows))
    assert "Slot F1 %" in table and "Seeds" in table
    assert "91.00 ± 1.41" in table and "150.0 ± 70.7" in table
    assert "Seeds" not in markdown_table(summarise(FULL[:1]))


def test_pipes_do_not_break_the_table():
    rows = summarise([row("a|b", 0, 10.0, 0.5)])
    assert "| a\\|b |" in markdown_table(rows)


def test_rich_table_fits_a_terminal_of_80():
    rich_console = pytest.importorskip("rich.console")
    rows = [{**r, "slot_f1": 0.9, "cpu_seconds": 222.2} for r in FULL + HALF]
    rows += [{**r, "run": "short full 0.5", "seconds": 1234.5} for r in rows[:2]]
    summary = {"data": "trips [v2]", "model": "tiny", "rows": summarise(rows)}
    out = io.StringIO()
    rich_console.Console(file=out, width=80).print(rich_table(summary))
    text = out.getvalue()
    assert "trips [v2], tiny" in text and "…" not in text
    assert all(cell in text for cell in ("el2n 0.5", "92.00 ± 1.41", "35.0", "222.2", "90,000"))
