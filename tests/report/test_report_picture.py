"""The picture and `write_report`: the numbers drawn, and runs with missing parts."""

import sys

import numpy as np
import pytest

from fastprune.errors import UsageError
from fastprune.report import RunFolder, draw, last_epoch_rows, summarise, write_report
from fastprune.report.plots import bin_edges, choose_run, curves, spread

pytest.importorskip("matplotlib")


def metric(run, seed, epoch, seconds, exact, **more):
    return {
        "run": run,
        "seed": seed,
        "epoch": epoch,
        "kept": 1.0,
        "seconds": seconds,
        "split": "test",
        "intent_accuracy": exact + 0.01,
        "slot_f1": exact,
        "exact_match": exact,
        **more,
    }


METRICS = [
    metric(run, seed, epoch, epoch * (10.0 if run == "full" else 6.0) + seed, 0.5 + epoch / 10)
    for run in ("full", "el2n 0.5", "static 0.5")
    for seed in (0, 1)
    for epoch in (1, 2, 3)
]


def scores(cycles, n=50):
    """cycles: (run, seed, epoch, share kept)."""
    rng = np.random.default_rng(0)
    parts = []
    for run, seed, epoch, share in cycles:
        values = rng.gamma(0.5, 0.2, n).astype(np.float32)
        kept = np.argsort(np.argsort(-values)) < share * n
        parts.append((np.array([run] * n, object), np.full(n, seed), np.full(n, epoch), np.arange(n), values, kept))
    names = ("run", "seed", "epoch", "index", "score", "kept")
    return {name: np.concatenate(column) for name, column in zip(names, zip(*parts, strict=True), strict=True)}


CYCLES = [
    ("static 0.5", 0, 1, 0.5),
    ("el2n 0.5", 1, 1, 0.5),
    ("el2n 0.5", 1, 2, 0.5),
    ("el2n 0.5", 0, 1, 0.5),
    ("el2n 0.5", 0, 2, 0.5),
]


def test_curves_average_over_seeds():
    x, y = zip(*curves(METRICS, "exact_match")["full"], strict=True)
    assert x == pytest.approx((10.5, 20.5, 30.5)) and y == pytest.approx((0.6, 0.7, 0.8))
    # An epoch that one seed has not reached yet would mix means of different seeds.
    assert len(curves(METRICS[:-1], "exact_match")["static 0.5"]) == 2
    assert curves(METRICS, "exact_match", split="validation") == {}


def test_choose_run_takes_the_most_cycles_then_the_smallest_seed():
    assert choose_run(scores(CYCLES), ["full", "static 0.5", "el2n 0.5"]) == ("el2n 0.5", 0)
    two = [("b", 0, 1, 0.5), ("a", 0, 1, 0.5)]
    assert choose_run(scores(two), ["b", "a"]) == ("b", 0)
    assert choose_run(scores(two), ["a", "b"]) == ("a", 0)
    assert choose_run(scores([("full", 0, 1, 1.0)]), ["full"]) is None


def test_spread_keeps_both_ends():
    assert spread([1, 2, 3], 6) == [1, 2, 3]
    assert spread(list(range(2, 21)), 6) == [2, 6, 9, 13, 16, 20]


def test_bin_edges():
    skewed = np.array([0.0] * 5 + [1e-4] * 50 + [1e-2, 1.0])
    edges, logarithmic = bin_edges(skewed)
    assert logarithmic and edges[0] > 0 and edges[-1] == pytest.approx(1.0)
    edges, logarithmic = bin_edges(np.array([-1.0, 0.0, 2.0]))
    assert not logarithmic and (edges[0], edges[-1]) == (-1.0, 2.0)
    for constant in (0.0, 0.3):
        assert np.all(np.diff(bin_edges(np.full(4, constant))[0]) > 0)


def axes_titles(figure):
    return [axes.get_title() for axes in figure.axes]


def test_picture_counts_every_example_once():
    figure = draw(METRICS, scores(CYCLES), "trips, tiny")
    left, *panels, score_map = figure.axes
    assert [line.get_label().split(":")[0] for line in left.lines] == ["full", "el2n 0.5", "static 0.5"]
    assert left.get_xlabel() and left.get_ylabel() == "exact match (%)" and "2 seeds" in left.get_title()
    assert [axes.get_title() for axes in panels] == ["after epoch 1: 50 % kept", "after epoch 2: 50 % kept"]
    for axes in panels:
        dropped, kept = (sum(bar.get_height() for bar in container) for container in axes.containers)
        assert (dropped, kept) == (25, 25)
    assert score_map.get_title() == "Scores over 2 cycles: el2n 0.5, seed 0"
    assert [len(dots.get_offsets()) for dots in score_map.collections] == [25, 25]


def test_many_cycles_are_thinned_out():
    figure = draw(METRICS, scores([("el2n 0.5", 0, epoch, 0.3) for epoch in range(1, 12)]))
    assert axes_titles(figure)[1:] == [
        *(f"after epoch {epoch}: 30 % kept" for epoch in (1, 3, 5, 7, 9, 11)),
        "Scores over 11 cycles: el2n 0.5, seed 0",
    ]


@pytest.mark.parametrize(
    "without",
    [None, scores([("full", 0, 1, 1.0)]), {**scores(CYCLES), "score": np.full(250, np.nan, np.float32)}],
)
def test_runs_without_usable_scores_get_one_panel(without):
    assert axes_titles(draw(METRICS, without)) == ["Test exact match against time, mean of 2 seeds"]


def test_classification_shows_accuracy():
    plain = [{key: value for key, value in row.items() if key != "slot_f1"} for row in METRICS]
    assert draw(plain).axes[0].get_ylabel() == "accuracy (%)"


def test_no_evaluation_on_test_is_said():
    figure = draw([metric("full", 0, 1, 1.0, 0.5, split="validation")])
    assert "no evaluation" in figure.axes[0].texts[0].get_text()


def test_no_global_state():
    draw(METRICS, scores(CYCLES))
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder.create(tmp_path)
    folder.write_config({"data": "trips", "model": "tiny"})
    folder.write_metrics(METRICS)
    folder.write_scores(scores(CYCLES))
    folder.write_summary({"data": "trips", "model": "tiny", "rows": summarise(last_epoch_rows(METRICS))})
    return folder


def test_report_from_the_files_alone(folder):
    report = write_report(folder.path)
    assert report.picture == folder.path / "report.png"
    assert report.picture.read_bytes().startswith(b"\x89PNG")
    assert "| el2n 0.5 |" in report.markdown
    assert report.summary == folder.read_summary()


def test_report_of_an_interrupted_run(folder):
    whole = write_report(folder.path)
    for name in ("summary.json", "scores.parquet", "report.png"):
        (folder.path / name).unlink()
    report = write_report(folder.path)
    assert report.markdown == whole.markdown
    assert report.summary["data"] == "trips" and report.picture.exists()
    assert not (folder.path / "summary.json").exists()


def test_nothing_to_report(tmp_path):
    RunFolder.create(tmp_path).write_config({})
    with pytest.raises(UsageError, match="holds no evaluation"):
        write_report(tmp_path)


def test_missing_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match=r"matplotlib.*pip install 'fastprune\[demo\]'"):
        draw(METRICS)
