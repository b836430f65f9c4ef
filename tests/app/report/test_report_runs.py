"""Reports of several run folders, the panels of the cycles, and the examples with their texts."""

import json
import os
import re
import unicodedata

import numpy as np
import pytest
from helpers.made_up_runs import METRICS, metric, pruned, recorded, runs_of, scores, thirty_texts, write_run
from test_report_picture import axes_titles

from fastprune.app.cli import main
from fastprune.app.data import Split, build
from fastprune.app.report import RunFolder, draw, markdown_tables, write_report
from fastprune.app.report.cycles import churn_curves, data_map
from fastprune.app.report.examples import Example, Extremes, extremes, texts_of
from fastprune.app.report.runs import join_runs
from fastprune.errors import UsageError

pytest.importorskip("matplotlib")
pytestmark = pytest.mark.usefixtures("no_picture")


def test_churn_is_averaged_over_seeds_from_the_second_cycle_on():
    rows = [metric("el2n", seed, 1, 1.0, 0.5, phase="warmup", cycle=0, churn=0.0) for seed in (0, 1)]
    for seed, late in ((0, 0.2), (1, 0.4)):
        rows += [pruned("el2n", seed, epoch, 1, 0.0) for epoch in (2, 3)]
        rows += [pruned("el2n", seed, epoch, 2, late) for epoch in (4, 5)]
        rows += [pruned("el2n", seed, 6, 3, 0.1)]
        rows += [metric("el2n", seed, 7, 1.0, 0.5, phase="final", cycle=4, churn=0.9)]
    assert churn_curves(rows) == {"el2n": [(4, pytest.approx(0.3)), (6, pytest.approx(0.1))]}
    assert churn_curves(METRICS) == {}, "folders of earlier versions do not say"


def test_the_score_map_is_mean_and_deviation_over_the_cycles():
    table = scores([("el2n", 0, epoch, 0.5) for epoch in (1, 2, 4)], n=30)
    table["score"][3] = np.inf
    found = data_map(table, None, ("el2n", 0))
    by_cycle = table["score"].reshape(3, 30).astype(np.float64)
    by_cycle[~np.isfinite(by_cycle)] = np.nan
    np.testing.assert_allclose(found.middle, np.nanmean(by_cycle, axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.spread, np.nanstd(by_cycle, axis=0), rtol=1e-6, atol=1e-12)
    np.testing.assert_array_equal(found.kept, table["kept"][60:])
    assert not found.recorded and found.cycles == 3
    assert data_map(scores([("el2n", 0, 1, 0.5)]), None, ("el2n", 0)) is None, "one cycle has no deviation"


def test_a_recorded_data_map_goes_first_and_knows_who_was_kept():
    table = scores([("el2n", 0, epoch, 0.5) for epoch in (1, 2)], n=30)
    mine = recorded("el2n", 0, [2, 5, 29])
    found = data_map(table, mine, ("el2n", 0))
    assert found.recorded and found.middle.tolist() == mine["confidence"].tolist()
    assert found.kept.tolist() == table["kept"][30:][[2, 5, 29]].tolist()
    other = data_map(table, recorded("full", 1, [0, 1]), ("el2n", 0))
    assert (other.run, other.seed, other.kept) == ("full", 1, None)
    figure = draw(runs_of([pruned("el2n", 0, 2, 2, 0.5)], table, mine))
    titles = axes_titles(figure)
    assert titles[3:5] == ["Churn: newly kept at each selection", "Data map: el2n, seed 0"]
    assert figure.axes[4].get_xlabel().startswith("variability") and figure.axes[3].lines[0].get_ydata() == [50]


def test_extremes_are_those_of_the_last_cycle():
    table = scores([("el2n", 0, epoch, 0.5) for epoch in (1, 2)] + [("el2n", 1, 1, 0.5)], n=30)
    table["score"][30 + 4] = np.inf  # not scored: neither useful nor useless
    found = extremes(table, "el2n", 0, count=3)
    last = table["score"][30:60]
    order = [i for i in np.argsort(-last, kind="stable") if i != 4]
    assert [e.index for e in found.most] == order[:3] and [e.index for e in found.least] == order[::-1][:3]
    assert found.epoch == 2 and found.most[0].score == last[order[0]] and found.most[0].text is None
    for example in found.most + found.least:
        both = table["kept"][[example.index, 30 + example.index]]
        assert (example.kept, example.cycles) == (both.sum(), 2)


def test_the_page_shows_texts_that_cannot_break_it(tmp_path):
    report = write_report(write_run(tmp_path / "run"), data=thirty_texts())
    page = report.page.read_text()
    sentence = "el2n at 0.5 saved 39 % of the time and kept the exact match (0.0 ± 0.0 points) (2 seeds)."
    assert page.startswith(f"# trips, tiny\n\n**{sentence}**\n\n") and "(report.png)" in page
    assert "| 29 | 9 | 2 of 2 | PlayMusic | play \\| some &lt;b> jazz |" in page
    first = report.examples["run"].least[0]
    assert first.text == thirty_texts().train.texts[first.index]
    assert page.index("## Most useful") < page.index("## Least useful")


def test_a_report_opens_nothing_but_its_folders(tmp_path):
    """A folder from elsewhere may name any path or hub id as its data."""
    run = write_run(tmp_path / "run")
    assert "| 29 | 9 | 2 of 2 | – | (text not at hand) |" in write_report(run).page.read_text()
    write_report(run, data=thirty_texts())
    assert "| 29 | 9 | 2 of 2 | PlayMusic | play " in write_report(run).page.read_text()
    (run / "texts.json").write_text('{"29": 5}')
    with pytest.raises(UsageError, match="texts.json: not texts by index"):
        write_report(run)


@pytest.mark.parametrize("name", ["metrics.jsonl", "texts.json", "scores.parquet", "classes.json"])
def test_links_out_of_a_folder_are_not_followed(tmp_path, name, capsys):
    run = write_run(tmp_path / "run")
    secret = tmp_path / "secret"
    secret.write_text('{"29": ["my password", "x"]}')
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(secret)
    assert main(["report", str(run)]) == 2
    assert f"{name}: not a file of this folder" in capsys.readouterr().err
    assert not (run / "report.md").exists()


def test_text_from_data_is_only_text(tmp_path, capsys):
    """Neither the page shows a picture from elsewhere, nor does the terminal obey."""
    run = write_run(tmp_path / "run", data="\x1b]0;title\x07 ![x](http://a.example/p.png)")
    RunFolder.open(run).write_texts({29: ("\x1b[2Jhello ![p](http://a.example/1.png) `x` \u202eabc", "a\x07|b")})
    assert main(["report", str(run)]) == 0
    said = capsys.readouterr().out
    assert not any(unicodedata.category(c) in ("Cc", "Cf") for c in said.replace("\n", ""))
    assert "\\x1b[2Jhello" in said
    page = (run / "report.md").read_text()
    assert "\\!\\[" in page or "!\\[p\\](" in page
    assert re.findall(r"(?<!\\)\[[^]]*\]\(([^)]*)\)", page) == ["report.png"]
    assert not any(unicodedata.category(c) in ("Cc", "Cf") for c in page.replace("\n", ""))


def test_several_folders_in_one_report(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    paths = [write_run(tmp_path / name) for name in ("a", "b")]
    for path in paths:
        RunFolder.open(path).write_texts({29: ("play | some <b> jazz", "PlayMusic")})
    before = {path: (path / "metrics.jsonl").read_bytes() for path in paths}
    assert main(["report", *map(str, paths), "--out", str(tmp_path / "both")]) == 0
    said = capsys.readouterr().out
    assert "a: full" in said and "b: el2n 0.5" in said and "play | some <b> jazz" in said
    assert "Most useful: b: el2n 0.5, seed 0, after epoch 2" in said
    assert sorted(os.listdir(tmp_path / "both")) == ["report.html", "report.md", "report.png"]
    page = (tmp_path / "both" / "report.md").read_text()
    rows = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| a: ")]
    assert rows == ["| a: full", "| a: el2n 0.5", "| a: static 0.5"]
    assert page.count("## Most useful examples: ") == 2
    assert all((path / "metrics.jsonl").read_bytes() == before[path] for path in paths)
    assert not (paths[0] / "report.png").exists()
    assert main(["report", *map(str, paths)]) == 2
    assert "--out" in capsys.readouterr().err


@pytest.mark.parametrize("width", [60, 80])
def test_what_is_printed_fits_the_terminal(tmp_path, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    run = write_run(tmp_path / "run")
    write_report(run, data=thirty_texts())
    assert main(["report", str(run)]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width and lines[1].startswith("el2n at 0.5 saved 39 % of the time")
    assert last == f"report: {run}/report.html, with report.md and report.png beside it"


def test_folders_of_one_name_are_told_apart(tmp_path):
    paths = [write_run(tmp_path / place / "run") for place in ("x", "y")]
    runs = [row["run"] for row in write_report(*paths, out=tmp_path / "out").summary["rows"]]
    assert len(set(runs)) == 6 and runs[0] == f"{paths[0]}: full"


def test_baselines_of_all_folders_are_black():
    both = join_runs({"a": runs_of(METRICS), "b": runs_of(METRICS)})
    names = [row["run"] for row in both.summary["rows"]]
    lines = dict(zip(names, draw(both).axes[0].lines, strict=True))
    black = [name for name, line in lines.items() if line.get_color() == "#000000"]
    assert black == ["a: full", "b: full"]
    assert len({lines[name].get_linestyle() for name in black}) == 2


def test_folders_that_another_metric_decides_share_a_report(tmp_path):
    """Each is drawn and judged by its own."""
    other = [{**row, "pearson": -0.5, "split": "validation"} for row in METRICS]
    both = join_runs({"a": runs_of(METRICS), "b": runs_of(other, config={"metrics": ["pearson"]})})
    quality = draw(both).axes[1]
    assert quality.lines[0].get_ydata()[-1] == pytest.approx(80) and quality.lines[3].get_ydata()[-1] == -50
    assert quality.get_ylabel() == "exact match on test / Pearson correlati… (%)"
    table = markdown_tables(both.summary)
    assert "| **Exact %** | Intent % | Slot F1 % | **Pearson %** |" in table
    assert "In b: Decides: Pearson correlation on validation." in table


def test_a_folder_named_twice_is_shown_once(tmp_path):
    path = write_run(tmp_path / "run")
    assert write_report(path, path).summary == write_report(path).summary


def test_no_folder_at_all_is_refused():
    with pytest.raises(UsageError, match="give one or more"):
        write_report()


def test_damaged_data_maps_are_named(tmp_path):
    run = write_run(tmp_path / "run")
    (run / "data_map.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match="data_map.parquet: not readable"):
        write_report(run)
    assert json.loads((run / "config.json").read_text())["data"] == "trips"


def test_the_classes_of_the_model_largest_first(tmp_path):
    run = write_run(tmp_path / "run")
    rates = {"precision": 0.5, "recall": 0.25, "f1": 1 / 3}
    RunFolder.open(run).write_classes({f"c|{i:02}": {**rates, "support": 5 + i} for i in range(33)})
    (run / "summary.json").write_text('{"model_run": {"run": "static 0.5", "seed": 1, "epoch": 3}}')
    page = write_report(run).page.read_text()
    lines = [line for line in page.splitlines() if line.startswith("| c")]
    assert lines[0] == "| c\\|32 | 50.0 | 25.0 | 33.3 | 37 |" and len(lines) == 30
    assert "Not shown: 3 more with fewer examples." in page
    assert "model/ holds static 0.5, seed 1, after epoch 3." in page


def test_the_labels_of_every_task_are_spelled():
    for labels, spelled in (([("a", "b"), ()], "a, b"), ([0.5, 1.0], "0.5"), (["x", "y"], "x")):
        data = build("d", Split(["one", "two"], labels), {"test": Split(["one"], labels[:1])})
        ends = Extremes("r", 0, 1, [Example(0, 1.0, 1, 1)], [])
        assert texts_of(data, ends) == {0: ("one", spelled)}
