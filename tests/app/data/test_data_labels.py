"""What a label column is for, and which cells are no label."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastprune.app.data import Source, load
from fastprune.app.data.labels import guess_kind, number_of, one_spelling, read_label
from fastprune.errors import UsageError


@pytest.mark.parametrize(
    ("cells", "kind", "sure"),
    [
        (["pos", "neg"] * 20, "classification", True),
        (["0", "1"], "classification", False),
        ([str(i) for i in range(30)], "classification", False),
        ([str(i) for i in range(31)], "regression", False),
        (["0.5", "1"], "regression", False),
        (["1.0", "2.0"], "classification", False),
        ([["a"], ["a", "b"]], "multi-label", True),
        (["a,b", "a", "b", "c,a", "c", "b,c"], "multi-label", False),
        (["1,2", "2", "1", "0", "0,1"], "multi-label", False),
        (["Paris, France", "Rome, Italy"] * 20, "classification", True),
        (["01", "02"], "classification", False),
    ],
)
def test_the_task_follows_from_the_labels(cells, kind, sure):
    guess = guess_kind(cells, declared=False, where="x")
    assert (guess.kind, guess.sure) == (kind, sure), guess


def test_declared_classes_are_classes_however_many():
    assert guess_kind([str(i) for i in range(99)], declared=True, where="x").kind == "classification"


def test_texts_as_labels_leave_it_open():
    with pytest.raises(UsageError, match="--task classification or --task multi-label"):
        guess_kind([f"answer {i}" for i in range(50)], declared=False, where="x")


def test_one_and_one_point_nought_are_one_class_where_all_are_numbers(tmp_path):
    for labels, names in (
        (["1", "1.0", "2", "2.0"], ["1", "2"]),
        (["1", "1.0", "x", "x"], ["1", "1.0", "x"]),
        (["01", "1", "01", "1"], ["01", "1"]),
    ):
        for role in ("train", "test"):
            rows = "".join(f"t{i},{label}\n" for i, label in enumerate(labels))
            (tmp_path / f"{role}.csv").write_text(f"text,label\n{rows}")
        assert sorted(load(Source(data=str(tmp_path), task="classification")).label_names) == sorted(names)


def test_the_training_split_decides_how_labels_are_read(tmp_path):
    """A name in the test split alone, or a test split without other numbers below nought, changes nothing."""
    (tmp_path / "train.csv").write_text("text,label\n" + "a,1.0\nb,2.0\n" * 3)
    (tmp_path / "test.csv").write_text("text,label\nc,1.0\nd,x\n")
    data = load(Source(data=str(tmp_path), task="classification"))
    assert data.label_names == ["1", "2"] and data.test.labels == ["1", "x"]
    (tmp_path / "train.csv").write_text("text,label\na,-1\nb,-0.5\nc,0.5\nd,1\n")
    (tmp_path / "test.csv").write_text("text,label\ne,-1\nf,0.5\n")
    assert load(str(tmp_path)).test.labels == [-1.0, 0.5]


@given(st.one_of(st.integers(-5, 5).map(str), st.floats(-3, 3).map(str), st.text(max_size=3)))
def test_one_spelling_is_idempotent_and_changes_no_value(label):
    once = one_spelling(label)
    assert one_spelling(once) == once and number_of(once) == number_of(label)


@pytest.mark.parametrize("text", ["nan", "inf", "1_0", "", "x", "1e999", "\u0661\u0662x"])
def test_texts_that_are_no_numbers(text):
    assert number_of(text) is None


def table(tmp_path, labels):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps({"text": f"t{i}", "label": label}) + "\n" for i, label in enumerate(labels)))
    return load(Source(data=str(path)))


def test_minus_one_and_null_are_no_class(tmp_path):
    data = table(tmp_path, [0, 1, -1, None, 0, 1, 0, 1, 1, 0, -1, 1])
    assert data.label_names == ["0", "1"]
    rows = sorted([*data.train.rows, *data.test.rows])
    assert rows == [0, 1, 4, 5, 6, 7, 8, 9, 11]
    assert any("1 without label and 2 without label (-1) of 12 rows are left out" in note for note in data.notes)


def test_minus_one_is_a_number_among_numbers_below_nought(tmp_path):
    data = table(tmp_path, [0.5, -1, -2.5, 3, 1, 2, 4, 5, 6, 7, 8, 9])
    assert data.kind == "regression"
    assert -1.0 in [*data.train.labels, *data.test.labels] and len(data.train) + len(data.test) == 12


def test_a_guess_is_said_with_the_option_that_overrides_it(tmp_path):
    data = table(tmp_path, [i % 2 for i in range(20)])
    assert any("taken for classification" in note and "--task regression" in note for note in data.notes)
    path = str(tmp_path / "train.jsonl")
    assert load(Source(data=path, task="regression")).kind == "regression"
    assert load(Source(data=path, task="multi-label")).label_names == ["0", "1"]
    assert not any("taken for" in note for note in load(Source(data=path, task="classification")).notes)


def test_the_deciding_metric_can_be_chosen(tmp_path):
    table(tmp_path, [i % 2 for i in range(20)])
    source = {"data": str(tmp_path / "train.jsonl"), "task": "classification"}
    assert load(Source(**source, metric="matthews")).metrics[0] == "matthews"
    with pytest.raises(UsageError, match="--metric pearson is none of this task's; choose accuracy, f1"):
        load(Source(**source, metric="pearson"))


def test_lists_where_one_class_is_wanted_are_named():
    with pytest.raises(UsageError, match="file, line 3: the label is a list of 2"):
        read_label(["a", "b"], "classification", lambda: "file, line 3")
