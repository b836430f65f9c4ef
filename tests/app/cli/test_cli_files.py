"""No command loses a user's files, and two commands do not share a folder."""

from __future__ import annotations

import os
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from helpers import forked
from helpers.made_up_data import utterances, write_slotgated

from fastprune.app.cli import main
from fastprune.app.cli.paths import refuse_inputs, user_path
from fastprune.errors import UsageError
from fastprune.files.lock import LOCK, new_folder, only_writer

SCORES = "index,score,label\n" + "".join(f"{i},{i / 10},a\n" for i in range(10))


def test_a_home_is_expanded_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_path("~/run") == tmp_path / "home" / "run"
    assert user_path("a~b/~") == Path("a~b/~")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "s.csv").write_text(SCORES)
    monkeypatch.chdir(tmp_path)
    assert main(["select", "~/s.csv", "--keep-fraction", "0.5", "--out=~/kept.csv"]) == 0
    assert sorted(os.listdir(tmp_path)) == ["home"] and (tmp_path / "home" / "kept.csv").is_file()


def test_a_second_run_does_not_erase_the_first_through_a_tilde(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, joint_folder: Path, tiny_model: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run1").mkdir()
    (tmp_path / "run1" / "config.json").write_text('{"fastprune_run": 1}')
    (tmp_path / "run1" / "metrics.jsonl").write_text("{}\n")
    command = ["finetune", "--data", str(joint_folder), "--model", str(tiny_model), "--out=~/run1"]
    assert main(command) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert (tmp_path / "run1" / "metrics.jsonl").read_text() == "{}\n"


@pytest.mark.parametrize("link", ["same", "symbolic", "hard", "relative"])
def test_select_does_not_write_over_its_scores(
    link: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    scores = tmp_path / "s.csv"
    scores.write_text(SCORES)
    out = tmp_path / "other.csv"
    if link == "symbolic":
        out.symlink_to(scores)
    elif link == "hard":
        out.hardlink_to(scores)
    else:
        out = scores
    monkeypatch.chdir(tmp_path)
    given = Path("s.csv") if link == "relative" else out
    assert main(["select", str(scores), "--keep-fraction", "0.5", "--out", str(given)]) == 2
    assert "--out" in (err := capsys.readouterr().err) and "would be lost" in err
    assert scores.read_text() == SCORES


def test_score_does_not_write_over_its_data(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    table = tmp_path / "x.csv"
    table.write_text("text,label\nhello,a\n")
    assert main(["score", "--model", "nowhere", "--data", str(table), "--out", str(table)]) == 2
    assert "is what is read, and would be lost" in capsys.readouterr().err
    (tmp_path / "tables").mkdir()
    train = tmp_path / "tables" / "train.csv"
    train.write_text("text,label\nhello,a\n")
    assert main(["score", "--model", "nowhere", "--data", str(tmp_path / "tables"), "--out", str(train)]) == 2
    assert "is what is read" in capsys.readouterr().err
    assert train.read_text() == table.read_text() == "text,label\nhello,a\n"


def test_a_file_beside_the_inputs_may_be_written_again(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("")
    (tmp_path / "old.csv").write_text("")
    refuse_inputs("--out", tmp_path / "old.csv", [tmp_path / "train.csv"])
    refuse_inputs("--out", tmp_path / "new.csv", [tmp_path])
    with pytest.raises(UsageError, match=r"--out .*old.csv is a file of .*, which is read"):
        refuse_inputs("--out", tmp_path / "old.csv", [tmp_path])


def test_resume_touches_nothing_in_a_foreign_folder(
    tmp_path: Path, joint_folder: Path, tiny_model: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"loss": 1}\n')
    (tmp_path / "scores.parquet").write_text("mine")
    command = ["finetune", "--data", str(joint_folder), "--model", str(tiny_model), "--out", str(tmp_path)]
    assert main([*command, "--resume"]) == 2
    assert "is no run folder of fastprune" in capsys.readouterr().err
    assert main(command) == 2
    capsys.readouterr()
    assert sorted(os.listdir(tmp_path)) == ["metrics.jsonl", "scores.parquet"]
    assert (tmp_path / "scores.parquet").read_text() == "mine"


def _hold(folder: Path, held: Event, done: Event) -> None:
    with only_writer(folder):
        held.set()
        done.wait(60)


def test_two_processes_do_not_write_in_one_folder(tmp_path: Path) -> None:
    held, done = forked.context().Event(), forked.context().Event()
    other = forked.start(_hold, tmp_path, held, done)
    assert held.wait(60)
    with pytest.raises(UsageError, match="another process of fastprune is writing there"), only_writer(tmp_path):
        pass
    assert (tmp_path / LOCK).exists()
    other.kill()  # and the system releases the lock
    other.join()
    with only_writer(tmp_path):
        pass
    assert not (tmp_path / LOCK).exists()


def test_equal_seconds_get_a_suffix(tmp_path: Path) -> None:
    names = [new_folder(tmp_path / "runs" / "data-20261126-120000").name for _ in range(3)]
    assert names == ["data-20261126-120000", "data-20261126-120000-2", "data-20261126-120000-3"]


def test_a_folder_that_got_nothing_is_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    write_slotgated(tmp_path / "data", {"train": utterances(20, 0), "test": utterances(5, 1)})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "no model").mkdir()
    assert main(["finetune", "--data", "data", "--model", "no model"]) == 2
    assert "--model no model" in capsys.readouterr().err
    assert not list((tmp_path / "runs").iterdir())
