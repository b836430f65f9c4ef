"""`fastprune select`: files in, files out, every strategy."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch

from fastprune import selection
from fastprune.app.cli import main
from fastprune.app.dynamics import write_epoch
from fastprune.app.report.folder import RunFolder

N = 40
RNG = np.random.default_rng(3)
SCORES = {
    "index": np.arange(N),
    "el2n": RNG.gamma(0.6, 0.3, N).astype(np.float32),
    "confidence": RNG.random(N).astype(np.float32),
    "label": np.array([("a", "b", "b", "c")[i % 4] for i in range(N)]),
}
SCORES["score"] = SCORES["el2n"]


@pytest.fixture
def scores(tmp_path):
    """A .csv of the scores with the rows in another order."""
    path = tmp_path / "scores.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(SCORES)
        order = np.random.default_rng(4).permutation(N)
        table.writerows(zip(*(SCORES[name][order].tolist() for name in SCORES), strict=True))
    return path


def select(capsys, path, out, *more):
    status = main(["select", str(path), "--out", str(out), *map(str, more)])
    said = capsys.readouterr()
    return status, said.out, said.err


def rows(path):
    with path.open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def kept(capsys, path, tmp_path, *more):
    status, _, said = select(capsys, path, tmp_path / "kept.csv", "--keep-fraction", 0.4, *more)
    assert status == 0, said
    return [int(row["index"]) for row in rows(tmp_path / "kept.csv")]


def test_every_strategy_is_that_of_the_library(capsys, scores, tmp_path):
    el2n, k = torch.from_numpy(SCORES["el2n"]), 16
    labels = torch.tensor(["abc".index(label) for label in SCORES["label"]])
    below = int((el2n < el2n.double().mean()).sum())
    expected = {
        ("hardest",): selection.hardest(el2n, k),
        ("easiest",): selection.easiest(el2n, k),
        ("window", "--offset", 0.1): selection.window(el2n, k, 0.1),
        ("stratified", "--offset", 0.1, "--seed", 7): selection.stratified(el2n, k, 7, 0, offset=0.1),
        ("class-balanced", "--labels", "label", "--quota", "equal"): selection.class_balanced(
            el2n, labels, k, quota="equal"
        ),
        ("probabilistic", "--power", 2, "--weighted"): selection.probabilistic(el2n, k, 0, 0, power=2, weighted=True),
        ("random", "--seed", 5): selection.random(N, k, 5, 0),
        ("threshold-random", "--seed", 5): selection.threshold_random(el2n, (N - k) / below, 5, 0),
    }
    for (strategy, *options), wanted in expected.items():
        assert kept(capsys, scores, tmp_path, "--strategy", strategy, *options) == wanted.indices.tolist(), strategy
        assert len(wanted) == k
        found = rows(tmp_path / "kept.csv")
        assert [row["score"] for row in found] == pytest.approx(el2n[wanted.indices].tolist())
        if wanted.weights is None:
            assert set(found[0]) == {"index", "score"}
        else:
            assert [row["weight"] for row in found] == pytest.approx(wanted.weights.tolist())


def test_metrics_that_shrink_are_hard_where_they_are_small(capsys, scores, tmp_path):
    order = SCORES["confidence"].argsort()
    assert kept(capsys, scores, tmp_path, "--column", "confidence") == sorted(order[:16].tolist())
    found = kept(capsys, scores, tmp_path, "--column", "confidence", "--hardest", "largest")
    assert found == sorted(order[-16:].tolist())
    status, said, _ = select(capsys, scores, tmp_path / "k.csv", "--keep-fraction", 0.4, "--column", "confidence")
    assert status == 0 and "confidence: smallest is hardest" in said
    assert f"threshold  {SCORES['confidence'][order[15]]:.6g}" in said


def test_the_table_says_what_was_kept(capsys, scores, tmp_path):
    _, said, _ = select(capsys, scores, tmp_path / "k.csv", "--keep-fraction", 0.25)
    ranked = np.sort(SCORES["el2n"])[::-1]
    assert "kept       10 of 40" in said and f"threshold  {ranked[9]:.6g}" in said
    table = {line.split()[0]: line.split()[1:] for line in said.splitlines()[-3:-1]}
    for name, part in (("kept", ranked[:10]), ("pruned", ranked[10:])):
        count, *numbers = map(float, table[name])
        assert count == len(part)
        assert numbers == pytest.approx([part.min(), part.mean(dtype=float), part.max()], rel=1e-5)


def test_all_kinds_of_files_go_in_and_out(capsys, scores, tmp_path):
    parquet.write_table(pa.table(SCORES), tmp_path / "scores.parquet")
    lines = [json.dumps({name: values[i].item() for name, values in SCORES.items()}) for i in range(N)]
    (tmp_path / "scores.jsonl").write_text("\n".join(lines))
    found = []
    for kind in ("parquet", "jsonl", "csv"):
        out = tmp_path / f"kept.{kind}"
        assert select(capsys, tmp_path / f"scores.{kind}", out, "--keep-fraction", 0.5)[0] == 0
        if kind == "parquet":
            found.append(parquet.read_table(out).to_pylist())
        elif kind == "jsonl":
            found.append([json.loads(line) for line in out.read_text().splitlines()])
        else:
            found.append(rows(out))
    expected = [(i, SCORES["el2n"][i]) for i in np.sort(SCORES["el2n"].argsort()[20:])]
    for table in found:
        assert [(row["index"], np.float32(row["score"])) for row in table] == expected


def test_of_the_cycles_of_a_run_the_last_counts(capsys, tmp_path):
    columns = {"index": np.tile(np.arange(4), 2), "score": np.array([9, 8, 1, 2, 1, 2, 9, 8], dtype=np.float32)}
    parquet.write_table(pa.table(columns), tmp_path / "scores.parquet")
    status, _, said = select(capsys, tmp_path / "scores.parquet", tmp_path / "k.csv", "--keep-fraction", 0.5)
    assert status == 0 and "8 rows for 4 examples; the last of each counts" in said
    assert [row["index"] for row in rows(tmp_path / "k.csv")] == [2, 3]


def test_of_several_runs_one_must_be_named(capsys, tmp_path):
    columns = {
        "run": np.repeat(["el2n 0.5", "el2n 0.5", "random 0.5"], 4),
        "seed": np.repeat([0, 1, 0], 4),
        "epoch": np.repeat([1, 1, 1], 4),
        "index": np.tile(np.arange(4), 3),
        "score": np.array([9, 8, 1, 2, 1, 2, 9, 8, 1, 9, 1, 8], dtype=np.float32),
    }
    path = tmp_path / "scores.parquet"
    parquet.write_table(pa.table(columns), path)

    def of(*more):
        status, _, said = select(capsys, path, tmp_path / "k.csv", "--keep-fraction", 0.5, *more)
        return [int(row["index"]) for row in rows(tmp_path / "k.csv")] if status == 0 else said

    refused = of()
    assert (
        refused.count("\n") == 1 and "several runs (el2n 0.5, seed 0; el2n 0.5, seed 1; random 0.5, seed 0)" in refused
    )
    assert "several runs (el2n 0.5, seed 0; el2n 0.5, seed 1)" in of("--run", "el2n 0.5")
    assert of("--run", "el2n 0.5", "--run-seed", 0) == [0, 1]
    assert of("--run", "el2n 0.5", "--run-seed", 1) == [2, 3]
    assert of("--run", "random 0.5") == [1, 3]
    assert "no rows of run 'grand', only of 'el2n 0.5', 'random 0.5'" in of("--run", "grand")
    assert "no rows of seed 7, only of 0, 1" in of("--run-seed", 7)
    assert (
        "go with a file of scores"
        in select(capsys, tmp_path, tmp_path / "k.csv", "--keep-fraction", 0.5, "--run", "a")[2]
    )


def test_a_data_map_is_refused_unless_a_column_of_it_is_named(capsys, tmp_path):
    """A folder of two runs is refused, as scores of two runs are."""
    one = {"seed": [0] * 4, "index": range(4), "confidence": [0.1, 0.3, 0.2, 0.4], "variability": [0.1, 0.2, 0.3, 0.4]}
    folder, out = RunFolder.create(tmp_path / "run"), tmp_path / "k.csv"
    path = tmp_path / "run" / "data_map.parquet"
    folder.write_data_map({"run": ["a"] * 4, **one})
    status, _, said = select(capsys, path, out, "--keep-fraction", 0.5)
    there = "'run', 'seed', 'index', 'confidence', 'variability'"
    assert (status, said) == (2, f"fastprune: {path} has no column 'score', only {there}\n")
    assert not out.exists()
    for column, expected in (("confidence", [0, 2]), ("variability", [2, 3])):
        assert select(capsys, path, out, "--keep-fraction", 0.5, "--column", column)[0] == 0
        assert [row["index"] for row in rows(out)] == expected
    folder.write_data_map({"run": ["a"] * 4 + ["b"] * 4, **{name: [*v, *v] for name, v in one.items()}})
    status, _, said = select(capsys, path, out, "--keep-fraction", 0.5, "--column", "confidence")
    assert status == 2 and "holds scores of several runs (a, seed 0; b, seed 0)" in said


def test_of_several_epochs_the_newest_counts_and_another_can_be_named(capsys, tmp_path):
    """Whatever the order of the rows."""
    columns = {
        "epoch": np.repeat([2, 1], 4),
        "index": np.tile(np.arange(4), 2),
        "score": np.array([9, 8, 1, 2, 1, 2, 9, 8], dtype=np.float32),
    }
    parquet.write_table(pa.table(columns), tmp_path / "s.parquet")
    found = []
    for more in ((), ("--run-epoch", 1), ("--run-epoch", 2)):
        status, _, said = select(capsys, tmp_path / "s.parquet", tmp_path / "k.csv", "--keep-fraction", 0.5, *more)
        assert status == 0 and ("holds scores of 2 epochs; of each example the newest" in said) == (not more)
        found.append([row["index"] for row in rows(tmp_path / "k.csv")])
    assert found == [[0, 1], [2, 3], [0, 1]]


def test_of_equal_scores_a_draw_from_the_seed_decides(capsys, tmp_path):
    counts = np.random.default_rng(0).poisson(0.1, 1000)
    (tmp_path / "f.csv").write_text("index,score\n" + "".join(f"{i},{c}\n" for i, c in enumerate(counts)))
    tied = int((counts == 0).sum())

    def of(*more):
        status, _, said = select(capsys, tmp_path / "f.csv", tmp_path / "k.csv", "--keep-fraction", 0.3, *more)
        assert status == 0
        return [int(row["index"]) for row in rows(tmp_path / "k.csv")], said

    first, said = of()
    assert f"note: the cut falls into a tie: {tied} of 1000 examples have the same score, and a seeded draw" in said
    by_class = np.bincount(np.array(first) // 100, minlength=10)
    assert by_class.min() >= 15 and by_class.max() <= 45
    assert of()[0] == first != of("--seed", 1)[0]
    by_index, said = of("--ties", "index")
    assert by_index == selection.hardest(torch.from_numpy(counts), 300).indices.tolist()
    assert "and the smaller index decides" in said
    assert "note" not in of("--strategy", "random")[1]


def test_training_dynamics_are_a_source_of_scores(capsys, tmp_path):
    # Example i wavers by i logits, and is right in the first i epochs of 4.
    for epoch in range(4):
        z = torch.tensor([[(1 if epoch < i else -1) * 0.3 * i, 0.0] for i in range(4)])
        z[0, 0] = -0.1
        write_epoch(tmp_path, epoch, torch.arange(4), z, torch.zeros(4, dtype=torch.int64))
    for options, expected in (
        ((), [2, 3]),
        (("--column", "correctness"), [0, 1]),
        (("--column", "forgetting", "--keep-fraction", 0.25), [0]),
        (("--column", "aum", "--strategy", "easiest", "--keep-fraction", 0.25), [3]),
    ):
        status, _, said = select(capsys, tmp_path, tmp_path / "k.csv", "--keep-fraction", 0.5, *options)
        assert status == 0, said
        found = rows(tmp_path / "k.csv")
        assert [row["index"] for row in found] == [row["guid"] for row in found] == expected, options


BAD = {
    "share": (["--keep-fraction", 1.5], "--keep-fraction is the share"),
    "column": (["--column", "grand"], "no column 'grand', only 'index'"),
    "text column": (["--column", "label"], "'label' must be numbers"),
    "offset": (["--offset", 0.1], "--offset goes with"),
    "too much offset": (["--strategy", "window", "--offset", 0.7], "lower k or offset"),
    "too much offset in classes": (
        ["--strategy", "class-balanced", "--labels", "label", "--offset", 0.6],
        "--offset 0.6 and --keep-fraction 0.5 exceed 1 together",
    ),
    "labels missing": (["--strategy", "class-balanced"], "--labels COLUMN"),
    "labels alone": (["--labels", "label"], "--labels COLUMN"),
    "weighted": (["--weighted"], "--weighted goes with"),
    "power": (["--power", 2.0], "--power goes with"),
    "quota": (["--quota", "sqrt"], "--quota goes with"),
    "negative": (["--strategy", "probabilistic", "--column", "confidence"], "confidence is smallest where"),
    "too few below the mean": (
        ["--strategy", "threshold-random", "--keep-fraction", 0.1],
        "raise --keep-fraction above",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_end_with_one_sentence(case, capsys, scores, tmp_path):
    bad, named = BAD[case]
    status, said, error = select(capsys, scores, tmp_path / "kept.csv", "--keep-fraction", 0.5, *bad)
    assert status == 2 and said == ""
    assert error.count("\n") == 1 and error.startswith("fastprune: ") and named in error
    assert not (tmp_path / "kept.csv").exists()


def test_bad_files_end_with_one_sentence(capsys, scores, tmp_path):
    (tmp_path / "gaps.csv").write_text("index,score\n0,1\n2,1\n")
    (tmp_path / "nan.csv").write_text("index,score\n0,1\n1,nan\n")
    for path, named in (
        ("gaps.csv", "from 0 to n - 1"),
        ("nan.csv", "NaN"),
        ("none.csv", "no such file"),
        (".", "training"),
    ):
        status, _, error = select(capsys, tmp_path / path, tmp_path / "k.csv", "--keep-fraction", 0.5)
        assert status == 2 and error.count("\n") == 1 and named in error, error
    assert "a score file ends in" in select(capsys, scores, tmp_path / "k.txt", "--keep-fraction", 0.5)[2]
    assert "make it first" in select(capsys, scores, tmp_path / "no" / "k.csv", "--keep-fraction", 0.5)[2]
