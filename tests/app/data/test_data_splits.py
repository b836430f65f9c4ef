"""Which rows are of which split: names, columns, a split made by us, rows that keep their number."""

import csv

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastprune.app.data import Source, Split, load, load_rows
from fastprune.app.data.holdout import hold_out
from fastprune.app.data.splits import role_of
from fastprune.errors import UsageError


def write_csv(path, rows, header=("text", "label")):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("train.csv", "train"),
        ("train-00000-of-00001.parquet", "train"),
        ("in_domain_train.tsv", "train"),
        ("valid", "validation"),
        ("devel.jsonl", "validation"),
        ("eng.testa", "validation"),
        ("dev_mismatched.tsv", "validation_mismatched"),
        ("test_matched.tsv", "test_matched"),
        ("emerging.test.annotated", "test"),
        ("train_test.csv", None),
        ("README.md", None),
        ("latest.csv", None),
    ],
)
def test_splits_by_name(name, role):
    assert role_of(name) == role


def test_a_column_may_say_the_split(tmp_path):
    rows = [(f"t{i}", i % 2, ("train", "train", "dev", "test")[i % 4]) for i in range(40)]
    path = write_csv(tmp_path / "all.csv", rows, ("text", "label", "fold"))
    data = load(Source(data=path, split_column="fold"))
    assert len(data.train) == 20 and {name: len(split) for name, split in data.held_out.items()} == {
        "validation": 10,
        "test": 10,
    }
    assert data.train.row_numbers[:4] == [0, 1, 4, 5], "in the file, not in the split"


def test_hold_out_is_a_tenth_seeded_and_spread_over_the_classes(tmp_path):
    sizes = {"big": 600, "mid": 300, "small": 95, "pair": 4, "lone": 1}
    path = write_csv(tmp_path / "all.csv", [(f"{label} {i}", label) for label, n in sizes.items() for i in range(n)])
    data = load(path, seed=1)
    assert sum("held out for one, about 10% of each class (seed 1)" in note for note in data.notes) == 1
    assert len(data.train) + len(data.test) == 1000
    for label, n in sizes.items():
        assert abs(data.test.labels.count(label) - n / 10) <= 1
        assert label in data.train.labels
    assert load(path, seed=1) == data
    assert load(path, seed=2).test.texts != data.test.texts


def test_numbers_are_held_out_by_quantile(tmp_path):
    path = write_csv(tmp_path / "all.csv", [(f"t{i}", i * i / 7) for i in range(1000)])
    data = load(path)
    assert data.kind == "regression"
    ranks = sorted(int((label * 7) ** 0.5 + 0.5) * 10 // 1000 for label in data.test.labels)
    assert all(8 <= ranks.count(tenth) <= 12 for tenth in range(10)), ranks


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("xyz")), min_size=30, max_size=120),
    st.integers(0, 9),
)
def test_no_held_out_text_is_trained_on(pairs, seed):
    split = Split(
        [text * 3 if i % 3 else text.upper() * 3 for i, (text, _) in enumerate(pairs)], [label for _, label in pairs]
    )
    try:
        train, test = hold_out(split, seed, "x")
    except UsageError:
        return
    assert not {text.casefold() for text in train.texts} & {text.casefold() for text in test.texts}
    assert sorted([*train.row_numbers, *test.row_numbers]) == list(range(len(split)))


def test_too_small_to_hold_out(tmp_path):
    with pytest.raises(UsageError, match="too few rows"):
        load(write_csv(tmp_path / "few.csv", [("a", "x"), ("b", "y")]))


def test_validation_is_reported_where_the_test_labels_are_withheld(tmp_path):
    rows = [(f"t{i}", i % 2) for i in range(20)]
    write_csv(tmp_path / "train.csv", rows)
    write_csv(tmp_path / "dev.csv", rows[:6])
    write_csv(tmp_path / "test.csv", [(text, -1) for text, _ in rows])
    data = load(str(tmp_path))
    assert data.reported == ("validation",) and data.validation == "validation"
    assert len(data.unlabelled["test"]) == 20


def test_rows_keep_their_number_and_their_id(tmp_path):
    rows = [(f"n{i}", f"t{i}" if i != 3 else "", "x" if i % 2 else "" if i == 4 else "y") for i in range(40)]
    path = write_csv(tmp_path / "all.csv", rows, ("id", "text", "label"))
    found, notes = load_rows(Source(data=path), "classification", labels_needed=True)
    assert found.rows == [i for i in range(40) if i not in (3, 4)]
    assert found.ids[3] == "n5" and found.texts[3] == "t5"
    assert notes == (f"{path}: 1 without label and 1 without text of 40 rows are left out",)
    everything, _ = load_rows(Source(data=path), "classification")
    assert len(everything) == 38 or everything.labels is not None


def test_keep_trains_on_the_rows_of_a_file(tmp_path):
    path = write_csv(tmp_path / "all.csv", [(f"t{i}", "xy"[i % 2]) for i in range(100)])
    data = load(path)
    kept, held = data.train.rows[:5], data.test.rows[0]
    write_csv(tmp_path / "kept.csv", [(row, 1.0) for row in [*kept, held]], ("row", "score"))
    small = load(Source(data=path, keep=str(tmp_path / "kept.csv")))
    assert small.train.rows == kept and small.test == data.test
    assert "5 of 90 training examples are trained on; 1 rows of the file are held out" in small.notes[-1]
    write_csv(tmp_path / "index.csv", [(0, 1.0), (2, 1.0)], ("index", "score"))
    assert load(Source(data=path, keep=str(tmp_path / "index.csv"))).train.rows == [
        data.train.rows[0],
        data.train.rows[2],
    ]
    for bad, why in (
        ([(9_999, 1.0)], "is not in the training data"),
        ([("x", 1.0)], "whole numbers"),
        ([(held, 1.0)], "none of its 1 rows"),
    ):
        write_csv(tmp_path / "bad.csv", bad, ("row", "score"))
        with pytest.raises(UsageError, match=why):
            load(Source(data=path, keep=str(tmp_path / "bad.csv")))


def test_numbers_far_from_zero_are_noted(tmp_path):
    for name, factor in (("near", 1), ("far", 1000)):
        rows = "".join(f"flat number {i},{factor * (i % 7) / 3}\n" for i in range(40))
        (tmp_path / f"{name}.csv").write_text("text,price\n" + rows)
        notes = load(Source(data=str(tmp_path / f"{name}.csv"), label_column="price")).notes
        assert any("so that most lie between -5 and 5" in note for note in notes) == (name == "far"), notes


@pytest.mark.parametrize("seed", range(12))
def test_a_text_that_is_most_of_the_data_stays_in_train(tmp_path, seed):
    rows = "".join(f"{'same' if i < 90 else f'text {i}'},{'ab'[i % 2]}\n" for i in range(100))
    (tmp_path / "rows.csv").write_text("text,label\n" + rows)
    data = load(Source(data=str(tmp_path / "rows.csv")), seed=seed)
    assert len(data.test) == 1 and "same" not in data.test.texts
    assert "1 of 100 training rows are held out for one, fewer than a tenth, because rows of one text" in data.notes[0]
