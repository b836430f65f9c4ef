"""The tables: their cells, and what fits into a terminal."""

import io

import pytest
from helpers.made_up_runs import METRICS, metric, runs_of, scores
from test_report_summary import FULL, HALF, row

from fastprune.app.report import markdown_tables, rich_examples, rich_table
from fastprune.app.report.examples import extremes
from fastprune.app.report.summary import make_summary
from fastprune.app.report.table import as_text

rich_console = pytest.importorskip("rich.console")


def summary_of(rows, **config):
    evaluations = [{"epoch": 1, "split": "test", **one} for one in rows]
    return make_summary(evaluations, {"data": "trips [v2]", "model": "tiny", **config})


def test_markdown():
    lines = markdown_tables(summary_of([FULL[0], HALF[1]])).splitlines()
    assert lines[0] == (
        "| Run | Method | Kept % | **Exact %** | Intent % "
        "| Total s | Saved % | Train s | Score s | Select s | Examples |"
    )
    assert lines[1].startswith("| --- | --- | ---: | ---: |")
    assert lines[2] == "| full | full | 100 | 90.00 | 90.00 | 100.0 | – | 98.0 | 1.5 | 0.5 | 100,000 |"
    assert lines[3] == "| el2n 0.5 | el2n | 50 | 91.00 | 91.00 | 80.0 | 20.0 | 78.0 | 1.5 | 0.5 | 80,000 |"
    assert lines[4:] == ["", "Decides: exact match on test."]


def test_the_deciding_metric_is_marked_in_every_table():
    splits = ["validation_matched", "validation_mismatched"]
    rows = [
        {**row("full", 0, 10.0, 0.9), "accuracy": value, "macro_f1": 0.5, "split": split}
        for split, value in zip(splits, (0.8, 0.7), strict=True)
    ]
    summary = summary_of(rows, metrics=["macro_f1", "accuracy"], reported=splits)
    page = markdown_tables(summary)
    first, second = page.split("On validation\\_mismatched:")
    assert "| **Macro F1 %** | Accuracy % |" in first and "80.00" in first and "70.00" not in first
    assert "| Run | **Macro F1 %** | Accuracy % |" in second and "70.00" in second and "Total s" not in second
    assert "Decides: macro F1 on validation\\_matched." in first
    said = printed(rich_table(summary), 80)
    assert said.count("%*") + said.count("F1*") == 2 and "* Decides: macro F1 on validation_matched." in said


def test_deviations_and_numbers_of_seeds():
    table = markdown_tables(summary_of(FULL))
    assert "91.00 ± 1.41" in table and "150.0 ± 70.7" in table
    assert "Seeds" not in table and "± is the standard deviation over 2 seeds." in table
    assert "| Seeds |" in markdown_tables(summary_of([*FULL, HALF[0]])), "they differ"


def test_negative_correlations():
    rows = [{**row("full", 0, 10.0, 0.5), "matthews": -0.125}]
    assert "| -12.50 |" in markdown_tables(summary_of(rows, metrics=["matthews"]))


def test_names_do_not_break_the_table():
    assert "| a\\|b |" in markdown_tables(summary_of([row("a|b", 0, 10.0, 0.5)]))
    assert as_text("<i> &lt; [x](y) `z` \x1b") == "&lt;i> &amp;lt; \\[x\\](y) \\`z\\` \\x1b"


def printed(what, width):
    out = io.StringIO()
    rich_console.Console(file=out, width=width).print(what)
    return out.getvalue()


NAMES = ["full", "el2n 0.5", "short full 0.5", "static:the-scores-of-an-earlier-run-of-mine.parquet 0.5"]


@pytest.mark.parametrize("width", [60, 80])
def test_the_tables_fit_the_terminal(width):
    rows = [
        metric(name, seed, 1, 1234.5 * (1 + seed), 0.9 + seed / 50, cpu_seconds=2222.2, train_seconds=1200.0,
               score_seconds=30.0, select_seconds=4.5, examples_seen=1_234_567)
        for name in NAMES for seed in (0, 1)
    ]  # fmt: skip
    said = printed(rich_table(runs_of(rows).summary), width)
    lines = said.splitlines()
    assert max(map(len, lines)) <= width and "…" not in said
    assert all(text in said for text in ("trips, tiny", "91.00 ± 1.41", "2222.2", "1,234,567", "Decides: exact match"))
    for name in NAMES[:3]:  # once in each table, never folded
        assert sum(line.strip().startswith(name) for line in lines) >= 2
    assert lines[1].startswith("el2n at 0.5 took as long as full")


@pytest.mark.parametrize("width", [60, 80])
def test_the_examples_fit_the_terminal(width):
    texts = {i: (f"a text of many words {'and more ' * 20}", "a_label_that_is_long_too") for i in range(50)}
    ends = extremes(scores([("el2n 0.5", 0, 1, 0.5)]), "el2n 0.5", 0, count=5, texts=texts)
    lines = printed(rich_examples(ends, width), width).splitlines()
    assert max(map(len, lines)) <= width
    assert sum("a text of" in line for line in lines) == 10


def test_a_run_without_any_value_of_the_metrics_is_still_shown():
    rows = [{key: value for key, value in one.items() if key in ("run", "seed", "epoch", "split", "seconds")}
            for one in METRICS]  # fmt: skip
    summary = runs_of(rows).summary
    assert "Decides: nothing" in printed(rich_table(summary), 60)
