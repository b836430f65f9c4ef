"""A run that has not reached its end is never averaged with one that has."""

import json

import pytest
from helpers.made_up_runs import metric, runs_of

from fastprune.app.report import RunFolder, make_summary, write_report
from fastprune.app.report.headline import notes
from fastprune.app.report.runs import read_runs
from fastprune.app.report.unfinished import unfinished_runs


def entry(name, seed, max_examples=None):
    return {"name": name, "seed": seed, "max_examples": max_examples}


CONFIG = {
    "data": "trips",
    "model": "tiny",
    "epochs": 3,
    "runs": [entry(name, seed) for seed in (0, 1) for name in ("full", "el2n 0.5")] + [entry("short full", 0, 150)],
}
WHOLE = [metric(run, 0, epoch, 10.0 * epoch, 0.9) for run in ("full", "el2n 0.5") for epoch in (1, 2, 3)]
BROKEN_OFF = [metric("full", 1, epoch, 10.0 * epoch, 0.1) for epoch in (1, 2)]


def test_a_broken_off_seed_changes_no_figure():
    found = make_summary(WHOLE + BROKEN_OFF, CONFIG)
    assert found["rows"] == make_summary(WHOLE, CONFIG)["rows"] and found["rows"][0]["n_seeds"] == 1
    assert found["unfinished"] == [{"run": "full", "seed": 1, "epoch": 2}]
    assert "Not finished, and left out: full, seed 1 (epoch 2)." in notes(found)
    assert not any("Not finished" in line for line in notes(make_summary(WHOLE, CONFIG)))


def test_where_no_run_has_ended_all_are_shown():
    found = make_summary(BROKEN_OFF, CONFIG)
    assert [row["run"] for row in found["rows"]] == ["full"]
    assert "Not finished: full, seed 1 (epoch 2)." in notes(found)


@pytest.mark.parametrize("seen, ended", [(149, False), (150, True), (152, True)])
def test_a_run_of_so_many_examples_ends_with_them(seen, ended):
    rows = [metric("short full", 0, 2, 20.0, 0.9, examples_seen=seen)]
    assert unfinished_runs(rows, CONFIG) == ([] if ended else [{"run": "short full", "seed": 0, "epoch": 2}])


@pytest.mark.parametrize("runs", [None, 3, [], [None], [{"name": 3}], [{"name": "full", "seed": "0"}], "full"])
def test_a_folder_that_names_no_runs_counts_as_finished(runs):
    assert unfinished_runs(BROKEN_OFF, {"epochs": 3, "runs": runs}) == []
    assert unfinished_runs(BROKEN_OFF, {**CONFIG, "epochs": "three"}) == []


def test_the_picture_draws_the_ended_seeds_and_names_what_has_not_ended(tmp_path):
    pytest.importorskip("matplotlib")
    folder = RunFolder(tmp_path)
    folder.write_config({**CONFIG, "fastprune_run": 1})
    under_way = [metric("el2n 0.3", 0, 1, 10.0, 0.2)]
    config = {**CONFIG, "runs": [*CONFIG["runs"], entry("el2n 0.3", 0)]}
    (tmp_path / "config.json").write_text(json.dumps({**config, "fastprune_run": 1}))
    folder.write_metrics(WHOLE + BROKEN_OFF + under_way)
    read = read_runs(folder)
    assert {(row["run"], row["seed"]) for row in read.metrics} == {("full", 0), ("el2n 0.5", 0), ("el2n 0.3", 0)}
    report = write_report(tmp_path)
    assert [row["run"] for row in report.summary["rows"]] == ["full", "el2n 0.5"]
    from fastprune.app.report import draw

    legend = [text.get_text() for text in draw(read).legends[0].get_texts()]
    assert "el2n 0.3: not finished" in legend and not any(text.startswith("full: not") for text in legend)


def test_scores_of_the_last_epoch_are_no_selection():
    pytest.importorskip("matplotlib")
    from helpers.made_up_runs import METRICS, scores

    from fastprune.app.report import draw

    figure = draw(runs_of(METRICS, scores([("el2n 0.5", 0, 1, 0.5), ("el2n 0.5", 0, 3, 0.0)])))
    titles = [axes.get_title() for part in _parts(figure) for axes in part.axes]
    assert "after epoch 1: 50 % kept" in titles and "after epoch 3: no selection" in titles


def _parts(figure):
    for part in figure.subfigs:
        yield part
        yield from _parts(part)
