"""Ranking by scores from a file."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.recorded import top

from fastprune.app.report.folder import RunFolder
from fastprune.errors import UsageError
from fastprune.files.score_files import read_scores, write_columns
from fastprune.methods.static import Static, static
from fastprune.pruning import DynamicPruner, History, get_method

SCORES = [0.5, 2.0, -1.0, 2.0, 0.25, 7.0, 0.0]


def write(path, rows, columns=("index", "score")):
    if path.suffix == ".csv":
        path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows))
    else:
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet as pq

        pq.write_table(pa.table({c: [row[j] for row in rows] for j, c in enumerate(columns)}), path)
    return path


def kept(method, k, cycle=1, seed=0):
    return method.select(History(len(method.scores), {}), k, cycle=cycle, epoch=cycle, seed=seed).indices.tolist()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("k", [1, 3, 6, 7])
def test_the_k_largest_of_the_file_are_kept(tmp_path, suffix, k):
    rows = [(i, SCORES[i]) for i in (3, 1, 0, 6, 5, 4, 2)]  # in any order
    method = get_method(f"static:{write(tmp_path / f'scores{suffix}', rows)}")
    assert method.scores.tolist() == SCORES
    assert kept(method, k) == top(SCORES, k) == kept(method, k, cycle=9, seed=4)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_of_several_scores_of_an_example_the_last_counts(tmp_path, suffix):
    rows = [(0, 1.0), (1, 2.0), (0, 3.0), (1, 0.5)]
    method = get_method(f"static:{write(tmp_path / f'scores{suffix}', rows)}")
    assert method.scores.tolist() == [3.0, 0.5]


RUNS = [
    ("a", 0, 1, 0, 1.0),
    ("a", 0, 1, 1, 2.0),
    ("a", 0, 0, 0, 5.0),
    ("a", 0, 0, 1, 6.0),
    ("b", 1, 1, 0, 7.0),
    ("b", 1, 1, 1, 8.0),
]
"""run, seed, epoch, index, score; the newer epoch of run a comes first."""


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_scores_of_several_runs_are_never_mixed(tmp_path, suffix, caplog):
    path = str(write(tmp_path / f"scores{suffix}", RUNS, ("run", "seed", "epoch", "index", "score")))
    with pytest.raises(UsageError, match=r"several runs \(a, seed 0; b, seed 1\); name one by its run and seed"):
        get_method(f"static:{path}")
    assert static(path, run="b").scores.tolist() == [7.0, 8.0] == static(path, seed=1).scores.tolist()
    assert not caplog.text
    assert static(path, run="a").scores.tolist() == [1.0, 2.0]
    assert "holds scores of 2 epochs; of each example the newest counts (up to epoch 1)" in caplog.text
    assert static(path, run="a", seed=0, epoch=0).scores.tolist() == [5.0, 6.0]
    for wrong, message in (
        (dict(run="c"), "no rows of run 'c', only of 'a', 'b'"),
        (dict(run="a", seed=1), "no rows of seed 1, only of 0"),
        (dict(run="b", epoch=0), "no rows of epoch 0, only of 1"),
    ):
        with pytest.raises(UsageError, match=message):
            static(path, **wrong)


def test_a_file_without_runs_has_none_to_choose(tmp_path):
    path = str(write(tmp_path / "s.csv", [(0, 1.0), (1, 2.0)]))
    with pytest.raises(UsageError, match="no column 'run'"):
        static(path, run="a")


def test_a_data_map_is_no_file_of_scores_but_its_columns_can_be_named(tmp_path):
    """The other table of a run folder, beside scores.parquet."""
    pytest.importorskip("pyarrow")
    folder = RunFolder.create(tmp_path / "run")
    folder.write_data_map({
        "run": ["a"] * 3, "seed": [0] * 3, "index": [2, 0, 1], "confidence": [0.5, 0.1, 0.9], "variability": [0.2] * 3
    })  # fmt: skip
    path = str(tmp_path / "run" / "data_map.parquet")
    with pytest.raises(UsageError) as error:
        get_method(f"static:{path}")
    there = "'run', 'seed', 'index', 'confidence', 'variability'"
    assert str(error.value) == f"{path} has no column 'score', only {there}"
    assert kept(static(path, column="confidence"), 1) == [0], "small confidence is hard"


def test_another_column_is_read_in_its_own_direction(tmp_path):
    path = str(write(tmp_path / "s.csv", [(0, 0.9, 3.0), (1, 0.1, 2.0)], ("index", "confidence", "loss")))
    assert static(path, column="loss").scores.tolist() == [3.0, 2.0]
    assert kept(static(path, column="confidence"), 1) == [1], "small confidence is hard"
    assert static(path, column="loss", offset=0.5).offset == 0.5


@pytest.mark.parametrize(
    "name, rows, columns, message",
    [
        ("s.csv", [(0, 1.0), (2, 1.0)], ("index", "score"), "every number from 0 to n - 1"),
        ("s.csv", [(-1, 1.0), (0, 1.0)], ("index", "score"), "every number from 0 to n - 1"),
        ("s.jsonl", [(0, 1.0)], ("index", "el2n"), "no column 'score', only 'index', 'el2n'"),
        ("s.csv", [(0, "high")], ("index", "score"), "must be numbers"),
        ("s.txt", [(0, 1.0)], ("index", "score"), "a score file ends in .parquet, .csv, .jsonl"),
        ("s.csv", [], ("index", "score"), "holds no scores"),
        ("s.parquet", [(0.0, 1.0), (1.5, 1.0)], ("index", "score"), "whole numbers"),
        ("s.jsonl", [(2**70, 1.0)], ("index", "score"), "'index' must be numbers"),
        ("s.csv", [(0, 1.0), (1, "nan"), (2, "nan")], ("index", "score"), "of example 1 is NaN, and of 1 others"),
    ],
)
def test_a_file_that_is_none_of_scores_is_named(tmp_path, name, rows, columns, message):
    path = tmp_path / name
    write(path if path.suffix != ".txt" else tmp_path / "s.csv", rows, columns)
    with pytest.raises(UsageError, match=message) as error:
        get_method(f"static:{path}")
    assert str(path) in str(error.value)


def test_a_files_beginning_mark_and_blank_lines_are_no_scores(tmp_path):
    (tmp_path / "s.csv").write_bytes(b"\xef\xbb\xbfindex,score\n0,1.5\n1,0.5\n")
    (tmp_path / "s.jsonl").write_text('{"index": 0, "score": 1.5}\n\n{"index": 1, "score": 0.5}\n\n')
    for name in ("s.csv", "s.jsonl"):
        assert get_method(f"static:{tmp_path / name}").scores.tolist() == [1.5, 0.5]


def test_a_relative_path_with_a_colon_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("exp:1").mkdir()
    write_columns(Path("exp:1/s.parquet"), {"index": np.arange(2), "score": np.array([1.0, 2.0])})
    assert read_scores(Path("exp:1/s.parquet")).tolist() == [1.0, 2.0]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        get_method(f"static:{tmp_path / 'none.csv'}")


@pytest.mark.parametrize(
    "name, content", [("s.jsonl", "{]\n"), ("s.parquet", "PAR2"), ("s.jsonl", '{"index": 0}\n{}\n')]
)
def test_a_broken_file_is_named(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=f"{name}: not a"):
        get_method(f"static:{tmp_path / name}")


def test_scores_of_another_data_set_are_refused_before_the_run():
    with pytest.raises(ValueError, match="scores of 7 examples, but the data set has 8"):
        DynamicPruner(8, keep_fraction=0.5, method=Static(torch.tensor(SCORES)))


def test_nan_is_refused_and_infinities_are_ordinary():
    with pytest.raises(ValueError, match="without NaN"):
        Static(torch.tensor([1.0, float("nan")]))
    method = Static(torch.tensor([1.0, float("-inf"), float("inf"), 2.0]))
    assert kept(method, 2) == [2, 3]


@pytest.mark.parametrize("offset, k", [(0.3, 4), (0.3, 6), (0.0, 2), (0.9, 1)])
def test_the_offset_drops_the_hardest_as_far_as_k_remain(offset, k):
    order = sorted(range(7), key=lambda i: (-SCORES[i], i))
    dropped = min(int(offset * 7 + 1e-9), 7 - k)
    assert kept(Static(torch.tensor(SCORES), offset), k) == sorted(order[dropped : dropped + k])


def test_of_equal_scores_a_draw_from_the_seed_decides():
    """Forgetting counts in a file sorted by class: each class keeps about its share, the same examples every cycle."""
    counts = torch.from_numpy(np.random.default_rng(0).poisson(0.1, 1000).astype(np.float32))
    method = Static(counts)
    first = kept(method, 300)
    assert first == kept(method, 300, cycle=5) != kept(method, 300, seed=1)
    by_class = np.bincount(np.array(first) // 100, minlength=10)
    assert by_class.min() >= 15 and by_class.max() <= 45
    assert set(counts.nonzero().flatten().tolist()) <= set(first)


def test_a_cut_in_a_large_tie_is_warned_of(caplog):
    kept(Static(torch.tensor([2.0, 1.0, 1.0, 0.0])), 2)
    assert "method 'static': the cut falls into a tie: 2 of 4 examples" in caplog.text
    caplog.clear()
    kept(Static(torch.tensor(SCORES)), 3)
    assert not caplog.text


def test_a_checkpoint_knows_whose_scores_they_were(tmp_path):
    def pruner(scores):
        path = write(tmp_path / "s.csv", list(enumerate(scores)))
        return DynamicPruner(len(scores), keep_fraction=0.5, method=f"static:{path}")

    state = pruner(SCORES).state_dict()
    pruner(SCORES).load_state_dict(state)
    with pytest.raises(ValueError, match="method_settings"):
        pruner(np.array(SCORES) + 1).load_state_dict(state)


def test_scores_of_a_file_go_by_its_rows(tmp_path):
    """Rows 1 and 4 are held out of training, and row 2 has no label and so no score."""
    path = tmp_path / "scores.csv"
    rows = [(k, row, 10.0 * row) for k, row in enumerate([0, 1, 3, 4, 5])]
    path.write_text("index,row,score\n" + "".join(f"{k},{row},{score}\n" for k, row, score in rows))
    method = get_method(f"static:{path}")
    assert method.of_rows([0, 3, 5]).scores.tolist() == [0.0, 30.0, 50.0]
    assert method.of_rows([5, 0]).digest != method.digest
    with pytest.raises(ValueError, match="row 2 of the training file has no score"):
        method.of_rows([0, 2])
    plain = Static(torch.tensor([1.0, 2.0]))
    assert plain.of_rows([7, 8]) is plain
