"""The run folder: what it refuses, atomic writes, round trips."""

import json
import os
import sys

import numpy as np
import pytest

from fastprune.app.report.folder import FILES, RunFolder, write_atomic
from fastprune.errors import UsageError


def columns(n=3):
    return {
        "run": ["el2n 0.5"] * n,
        "seed": [0] * n,
        "epoch": np.full(n, 2),
        "index": np.arange(n),
        "score": np.linspace(0, 1, n),
        "kept": np.arange(n) > 0,
    }


def test_create_and_open(tmp_path):
    folder = RunFolder.create(tmp_path / "a" / "b")
    with pytest.raises(UsageError, match="not a run folder"):
        RunFolder.open(folder.path)
    folder.write_config({"data": "x"})
    assert RunFolder.open(str(folder.path)).read_config()["data"] == "x"
    assert folder.read_summary() is None and folder.read_metrics() == [] and folder.read_scores() is None


def test_create_starts_over_but_only_in_its_own_files(tmp_path):
    folder = RunFolder.create(tmp_path)
    folder.write_config({})
    folder.write_metrics([{"run": "full"}])
    folder.write_summary({"rows": []})
    (tmp_path / "notes.txt").write_text("mine")
    RunFolder.create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_create_refuses_what_is_not_a_run(tmp_path):
    # Like a model checkpoint: its config.json is not ours.
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UsageError, match="not empty and not a run folder"):
        RunFolder.create(tmp_path)
    assert (tmp_path / "config.json").read_text() == '{"model_type": "bert"}'
    # A name that others use too.
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "metrics.jsonl").write_text("precious")
    with pytest.raises(UsageError, match="not empty and not a run folder"):
        RunFolder.create(tmp_path / "mine")
    assert (tmp_path / "mine" / "metrics.jsonl").read_text() == "precious"
    with pytest.raises(UsageError, match="a file is in the way"):
        RunFolder.create(tmp_path / "config.json")
    with pytest.raises(UsageError, match="no such folder"):
        RunFolder.open(tmp_path / "gone")


def test_metrics_round_trip(tmp_path):
    folder = RunFolder.create(tmp_path)
    ends = {"epoch": 1, "seconds": 2.0, "split": "dev"}
    rows = [
        {
            "run": "caf\u00e9 \u2028",
            "seed": np.int64(1),
            "exact_match": np.float32(0.5),
            "train_loss": float("nan"),
            **ends,
        },
        {"run": "full", "seed": 0, "kept": 1.0, "slots": None, **ends},
    ]
    folder.write_metrics(rows)
    assert folder.read_metrics() == [
        {"run": "caf\u00e9 \u2028", "seed": 1, "exact_match": 0.5, "train_loss": None, **ends},
        {"run": "full", "seed": 0, "kept": 1.0, "slots": None, **ends},
    ]
    assert len((tmp_path / "metrics.jsonl").read_bytes().splitlines()) == 2


def test_scores_round_trip(tmp_path):
    folder = RunFolder.create(tmp_path)
    folder.write_scores(columns())
    back = folder.read_scores()
    assert back["score"].dtype == np.float32 and back["index"].dtype == np.int64 and back["kept"].dtype == bool
    assert list(back["run"]) == ["el2n 0.5"] * 3 and back["kept"].tolist() == [False, True, True]
    assert back["epoch"].tolist() == [2, 2, 2]


def test_scores_must_be_complete(tmp_path):
    folder = RunFolder.create(tmp_path)
    incomplete = columns()
    del incomplete["kept"]
    with pytest.raises(ValueError, match="give exactly"):
        folder.write_scores(incomplete)
    with pytest.raises(Exception, match="length"):
        folder.write_scores({**columns(), "kept": [True]})
    assert os.listdir(tmp_path) == []


def test_damaged_files_are_named(tmp_path):
    folder = RunFolder.create(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"run": "a", "seed": 0, "epoch": 1, "seconds": 1}\n{"run": ')
    with pytest.raises(UsageError, match="metrics.jsonl, line 2: not JSON"):
        folder.read_metrics()
    (tmp_path / "summary.json").write_text("[]")
    with pytest.raises(UsageError, match="summary.json: not a JSON object"):
        folder.read_summary()
    (tmp_path / "scores.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match="scores.parquet: not readable"):
        folder.read_scores()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"index": [0, 1, -1]}, "'index' must lie in"),
        ({"index": [0, 1, 10**12]}, "'index' must lie in"),
        ({"seed": [0, None, 0]}, "'seed' has 1 empty cells"),
        ({"score": ["a", "b", "c"]}, "'score' is not float32"),
        ({"epoch": [1, 2, 2**40]}, "'epoch' is not int32"),
        ({"kept": None}, "no column 'kept'"),
    ],
)
def test_tables_of_wrong_content_are_refused(tmp_path, changes, message):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    found = {name: values for name, values in {**columns(), **changes}.items() if values is not None}
    parquet.write_table(pyarrow.table(found), tmp_path / "scores.parquet")
    with pytest.raises(UsageError, match=message):
        RunFolder(tmp_path).read_scores()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"exact_match": 91.5}, r"'exact_match' must lie in ±1, got 91.5"),
        ({"matthews": "high"}, "'matthews' must be a number, got 'high'"),
        ({"seconds": float("inf")}, "'seconds' must be a number, got inf"),
        ({"split": 5}, "'split' must be a text"),
        ({"method": []}, "'method' must be a text"),
        ({"seconds": None}, "no seconds"),
    ],
)
def test_evaluations_of_wrong_content_are_refused(tmp_path, more, message):
    row = {"run": "full", "seed": 0, "epoch": 1, "seconds": 1.0, **more}
    (tmp_path / "metrics.jsonl").write_text("\n" + json.dumps(row))
    with pytest.raises(UsageError, match=f"metrics.jsonl, line 2: {message}"):
        RunFolder(tmp_path).read_metrics()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"metrics": ["accuracy", "bleu"]}, "'bleu' is no quality measure; choose from accuracy"),
        ({"metrics": "accuracy"}, "'metrics' must be a list of names"),
        ({"reported": [["test"]]}, "'reported' must be a list of names"),
        ({"best": 1}, "'best' must be the name of a split"),
    ],
)
def test_settings_of_wrong_content_are_refused(tmp_path, config, message):
    RunFolder(tmp_path).write_config(config)
    with pytest.raises(UsageError, match=f"config.json: {message}"):
        RunFolder(tmp_path).read_config()


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text("old")

    def fail(temporary):
        assert temporary.parent == tmp_path and temporary != path
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, fail)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["summary.json"]


def test_written_files_have_ordinary_rights(tmp_path):
    old = os.umask(0o022)
    try:
        RunFolder.create(tmp_path).write_config({})
    finally:
        os.umask(old)
    assert (tmp_path / "config.json").stat().st_mode & 0o777 == 0o644


def test_unknown_values_are_refused(tmp_path):
    with pytest.raises(TypeError, match="a set cannot be written as JSON"):
        RunFolder.create(tmp_path).write_summary({"x": {1}})
    assert not (tmp_path / "summary.json").exists()


def test_missing_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pyarrow.*pip install 'fastprune\[report\]'"):
        RunFolder.create(tmp_path).write_scores(columns())


def test_config_is_marked(tmp_path):
    RunFolder.create(tmp_path).write_config({"seed": 1})
    assert json.loads((tmp_path / "config.json").read_text()) == {"fastprune_run": 1, "seed": 1}
    assert "config.json" in FILES
