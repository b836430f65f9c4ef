"""Where a report may be written, and what is left of a write that fails: other people's files, and a full disk."""

import errno
import os

import pytest
from helpers.made_up_runs import write_run

import fastprune.files.atomic
from fastprune.app.cli import main
from fastprune.app.report.folder import REPORT

pytest.importorskip("matplotlib")
pytestmark = pytest.mark.usefixtures("no_picture")


@pytest.mark.parametrize("name", REPORT)
def test_files_that_are_not_ours_are_not_written_over(tmp_path, capsys, name):
    run, out = write_run(tmp_path / "run"), tmp_path / "out"
    out.mkdir()
    (out / name).write_text("my own report, about fastprune report")
    assert main(["report", str(run), "--out", str(out)]) == 2
    said = f"fastprune: --out {out} holds a {name} that fastprune did not write; choose another folder\n"
    assert capsys.readouterr().err == said
    assert os.listdir(out) == [name] and (out / name).read_text().startswith("my own report")


def test_a_report_of_ours_is_made_again(tmp_path):
    run, out = write_run(tmp_path / "run"), tmp_path / "out"
    for _ in range(2):
        assert main(["report", str(run), "--out", str(out)]) == 0
    assert sorted(os.listdir(out)) == sorted(REPORT)


def test_a_run_folder_of_ours_may_hold_a_report_of_an_earlier_version(tmp_path):
    run = write_run(tmp_path / "run")
    (run / "report.md").write_text("| Run |")
    assert main(["report", str(run)]) == 0 and (run / "report.md").read_text().startswith("# trips, tiny")


def test_a_folder_without_our_mark_keeps_its_report(tmp_path, capsys):
    """metrics.jsonl is a common name."""
    run = write_run(tmp_path / "run")
    (run / "config.json").unlink()
    (run / "report.md").write_text("precious")
    assert main(["report", str(run)]) == 2
    assert "report.md that fastprune did not write" in capsys.readouterr().err
    assert (run / "report.md").read_text() == "precious"


def test_a_file_in_the_place_of_the_folder_is_said(tmp_path, capsys):
    run = write_run(tmp_path / "run")
    (tmp_path / "out").write_text("mine")
    assert main(["report", str(run), "--out", str(tmp_path / "out")]) == 2
    assert "is a file; choose another name" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_full_disk_loses_nothing(tmp_path, capsys, monkeypatch, call, after):
    run = write_run(tmp_path / "run")
    assert main(["report", str(run)]) == 0
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    config = (run / "config.json").read_text()
    (run / "config.json").write_text(config.replace("trips", "journeys"))
    before["config.json"] = (run / "config.json").read_bytes()
    capsys.readouterr()
    real, calls = getattr(os, call), []

    def full(*arguments):
        calls.append(arguments)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(run))
        return real(*arguments)

    monkeypatch.setattr(fastprune.files.atomic.os, call, full)
    assert main(["report", str(run)]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "No space left on device" in said and "nothing that was written before is lost" in said
    monkeypatch.undo()
    left = {path.name: path.read_bytes() for path in run.iterdir()}
    assert left.keys() == before.keys(), "no half of a file beside them"
    # Each file is the whole old one or the whole new one; the picture, which goes first, is the same in both.
    assert [name for name in REPORT if left[name] != before[name]] == list(REPORT[1:after])
    assert all(left[name] == before[name] for name in left.keys() - set(REPORT))
