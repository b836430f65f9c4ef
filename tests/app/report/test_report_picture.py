"""The picture and `write_report`: the numbers drawn, and runs with missing parts."""

import sys

import numpy as np
import pytest
from helpers.made_up_runs import METRICS, metric, recorded, runs_of, scores

from fastprune.app.report import RunFolder, draw, make_summary, write_report
from fastprune.app.report.curves import curves, line_styles
from fastprune.app.report.histograms import bin_edges, choose_run, evenly_chosen
from fastprune.app.report.plots import png_of
from fastprune.errors import UsageError

pytest.importorskip("matplotlib")

CYCLES = [
    ("static 0.5", 0, 1, 0.5),
    ("el2n 0.5", 1, 1, 0.5),
    ("el2n 0.5", 1, 2, 0.5),
    ("el2n 0.5", 0, 1, 0.5),
    ("el2n 0.5", 0, 2, 0.5),
]


def test_curves_average_over_seeds():
    x, y = zip(*curves(METRICS, "seconds", "exact_match")["full"], strict=True)
    assert x == pytest.approx((10.5, 20.5, 30.5)) and y == pytest.approx((0.6, 0.7, 0.8))
    # An epoch that one seed has not reached yet would mix means of different seeds.
    assert len(curves(METRICS[:-1], "seconds", "exact_match")["static 0.5"]) == 2
    assert curves(METRICS, "seconds", "matthews") == {}


def test_choose_run_takes_the_most_cycles_then_the_smallest_seed():
    assert choose_run(scores(CYCLES), ["full", "static 0.5", "el2n 0.5"]) == ("el2n 0.5", 0)
    two = [("b", 0, 1, 0.5), ("a", 0, 1, 0.5)]
    assert choose_run(scores(two), ["b", "a"]) == ("b", 0)
    assert choose_run(scores(two), ["a", "b"]) == ("a", 0)
    assert choose_run(scores([("full", 0, 1, 1.0)]), ["full"]) is None


def test_spread_keeps_both_ends():
    assert evenly_chosen([1, 2, 3], 6) == [1, 2, 3]
    assert evenly_chosen(list(range(2, 21)), 6) == [2, 6, 9, 13, 16, 20]


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


UPPER = ["Quality against time", "Quality by epoch", "Training loss by epoch"]


def legend_of(figure):
    """The one legend of the runs, which stands outside all axes."""
    (legend,) = [part.legends[0] for part in (figure, *figure.subfigs) if part.legends]
    return [text.get_text() for text in legend.get_texts()]


def test_picture_counts_every_example_once():
    figure = draw(runs_of(METRICS, scores(CYCLES)))
    time, quality, loss, score_map, *panels = figure.axes
    assert axes_titles(figure)[:3] == UPPER
    assert legend_of(figure) == ["full: 80.0 %, 30 s", "el2n 0.5: 80.0 %, 18 s", "static 0.5: 80.0 %, 18 s"]
    assert time.get_ylabel() == quality.get_ylabel() == "exact match on test (%)"
    assert loss.lines[0].get_ydata() == pytest.approx([2.0, 1.0, 2 / 3]) and loss.get_yscale() == "linear"
    assert quality.lines[0].get_xdata() == pytest.approx([1, 2, 3])
    assert [axes.get_title() for axes in panels] == ["after epoch 1: 50 % kept", "after epoch 2: 50 % kept"]
    for axes in panels:
        dropped, kept = (sum(bar.get_height() for bar in container) for container in axes.containers)
        assert (dropped, kept) == (25, 25)
    assert score_map.get_title() == "Scores over 2 cycles: el2n 0.5, seed 0"
    assert [len(dots.get_offsets()) for dots in score_map.collections] == [25, 25]


def test_many_cycles_are_thinned_out():
    figure = draw(runs_of(METRICS, scores([("el2n 0.5", 0, epoch, 0.3) for epoch in range(1, 12)])))
    assert axes_titles(figure)[3:] == [
        "Scores over 11 cycles: el2n 0.5, seed 0",
        *(f"after epoch {epoch}: 30 % kept" for epoch in (1, 3, 5, 7, 9, 11)),
    ]


@pytest.mark.parametrize(
    "without",
    [None, scores([("full", 0, 1, 1.0)]), {**scores(CYCLES), "score": np.full(250, np.nan, np.float32)}],
)
def test_runs_without_usable_scores_get_the_curves_alone(without):
    assert axes_titles(draw(runs_of(METRICS, without))) == UPPER


@pytest.mark.parametrize("count", [1, 4, 12, 30])
def test_the_legend_is_outside_the_axes_whatever_the_number_of_runs(count):
    names = ["full", *(f"a method with a long name {i} 0.5" for i in range(count - 1))]
    figure = draw(runs_of([metric(name, 0, epoch, 5.0 * epoch, 0.5) for name in names for epoch in (1, 2)]))
    figure.draw_without_rendering()
    (legend,) = figure.legends
    left = legend.get_window_extent().x0
    assert all(axes.get_window_extent().x1 <= left and axes.get_window_extent().width > 200 for axes in figure.axes)
    assert legend.get_window_extent().y0 >= 0 and len(legend.get_texts()) == min(count, 24)
    assert (f"and {count - 24} more" in legend.get_title().get_text()) == (count > 24)


def test_the_deciding_metric_and_split_are_drawn():
    config = {"metrics": ["matthews", "accuracy"], "reported": ["validation", "test"]}
    rows = [
        metric("full", 0, epoch, 1.0, 0.5, split=split, matthews=-0.25 if split == "validation" else 0.9)
        for epoch in (1, 2)
        for split in ("validation", "test")
    ]
    time, quality, loss = draw(runs_of(rows, config=config)).axes
    assert quality.get_ylabel() == "Matthews correlation on validation (%)"
    assert quality.lines[0].get_ydata() == pytest.approx([-25, -25]) and len(loss.lines[0].get_ydata()) == 2


def test_a_loss_of_many_sizes_is_drawn_by_its_logarithm():
    rows = [metric("full", 0, epoch, epoch, 0.5, train_loss=10.0**-epoch) for epoch in (1, 2, 3)]
    assert draw(runs_of(rows)).axes[2].get_yscale() == "log"


def test_no_value_at_all_is_said():
    rows = [{**row, "exact_match": None, "train_loss": None} for row in METRICS]
    figure = draw(runs_of(rows, config={"metrics": ["exact_match"]}))
    assert [axes.texts[0].get_text() for axes in figure.axes] == ["not recorded"] * 3


def test_names_are_drawn_as_they_are():
    names = ["$x^{", "_hidden", "\x1b[2J", "\u5b57", "n" * 300]
    runs = runs_of([metric(name, 0, 1, 1.0, 0.5) for name in names], recorded=recorded("$x^{", 0, [0, 1]))
    assert png_of(runs, {})[:4] == b"\x89PNG"
    labels = [text.split(":")[0] for text in legend_of(draw(runs))]
    assert labels == ["\\$x^{", "_hidden", "\\x1b[2J", "\u5b57", "n" * 27 + "…"]


def test_twelve_runs_can_be_told_apart():
    styles = line_styles([f"run {i}" for i in range(12)] + ["full"]).values()
    assert len({(style["color"], style["linestyle"]) for style in styles}) == 13


def test_no_global_state():
    draw(runs_of(METRICS, scores(CYCLES)))
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder.create(tmp_path)
    folder.write_config({"data": "trips", "model": "tiny"})
    folder.write_metrics(METRICS)
    folder.write_scores(scores(CYCLES))
    folder.write_summary(make_summary(METRICS, {"data": "trips", "model": "tiny"}))
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
        draw(runs_of(METRICS))
