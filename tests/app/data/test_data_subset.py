"""A user's rows come back as they were."""

import csv
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastprune.app.data import Source, load_rows
from fastprune.app.data.builders import read_table
from fastprune.app.data.subset import write_subset
from fastprune.errors import UsageError

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=8)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(CELLS, st.integers(0, 3)), min_size=1, max_size=12),
    st.data(),
    st.sampled_from([".csv", ".jsonl", ".json"]),
)
def test_the_rows_written_read_as_those_chosen(tmp_path_factory, rows, data, kind):
    folder = tmp_path_factory.mktemp("subset")
    chosen = sorted(data.draw(st.sets(st.integers(0, len(rows) - 1), min_size=1)))
    path, out = folder / f"all{kind}", folder / f"some{kind}"
    objects = [{"text": f"t{text}", "label": label} for text, label in rows]
    if kind == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *(tuple(row.values()) for row in objects)])
    elif kind == ".json":
        path.write_text(json.dumps(objects))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in objects))
    write_subset(path, chosen, out)
    assert read_table(out).columns == read_table(path).rows(chosen).columns


def test_tabs_and_parquet(tmp_path):
    (tmp_path / "a.tsv").write_text('x "y\t1\nz\t2\n')
    write_subset(tmp_path / "a.tsv", [0], tmp_path / "b.tsv", header=False)
    assert (tmp_path / "b.tsv").read_text() == 'x "y\t1\n'
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"n": [1, 2, 3]}), tmp_path / "a.parquet")
    write_subset(tmp_path / "a.parquet", [2, 0], tmp_path / "b.parquet")
    assert parquet.read_table(tmp_path / "b.parquet")["n"].to_pylist() == [3, 1]


def test_refusals(tmp_path):
    (tmp_path / "a.csv").write_text("t\nx\n")
    with pytest.raises(UsageError, match=r"the rows of a.csv are written as .csv"):
        write_subset(tmp_path / "a.csv", [0], tmp_path / "b.jsonl")
    with pytest.raises(UsageError, match="it has 1 rows and no row 1"):
        write_subset(tmp_path / "a.csv", [1], tmp_path / "b.csv")
    (tmp_path / "a.txt").write_text("x y\n")
    with pytest.raises(UsageError, match="cannot be written back"):
        write_subset(tmp_path / "a.txt", [0], tmp_path / "b.txt")
    assert not (tmp_path / "b.csv").exists()


def test_rows_of_a_column_of_splits_are_those_of_the_file(tmp_path):
    path = tmp_path / "all.csv"
    path.write_text("text,label,split\n" + "".join(f"t{i},{i % 2},{'test' if i < 5 else 'train'}\n" for i in range(12)))
    rows, _ = load_rows(Source(data=str(path)), "classification", split="train", labels_needed=True)
    write_subset(path, rows.rows[:2], tmp_path / "some.csv")
    assert (tmp_path / "some.csv").read_text().splitlines()[1:] == ["t5,1,train", "t6,0,train"]


def test_another_encoding_is_said(tmp_path):
    (tmp_path / "a.csv").write_bytes("t\ncaf\u00e9\n".encode("latin-1"))
    with pytest.raises(UsageError, match="not UTF-8 text"):
        write_subset(tmp_path / "a.csv", [0], tmp_path / "b.csv")
    write_subset(tmp_path / "a.csv", [0], tmp_path / "b.csv", encoding="latin-1")
    assert (tmp_path / "b.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()


def test_packaged_data_have_splits_and_limits_as_others_do():
    pytest.importorskip("home_assistant_intents")
    rows, _ = load_rows(Source(max_train=5), "joint", labels_needed=True)
    assert len(rows) == 5 and len(load_rows(Source(), "joint")[0]) == 1500
    with pytest.raises(UsageError, match="--split validation: the data have train, test"):
        load_rows(Source(), "joint", split="validation")


def test_a_task_that_does_not_exist_is_refused_whoever_reads_the_rows(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text,label\ngood,1\nbad,0\n")
    with pytest.raises(UsageError, match="--task clasification: choose classification"):
        load_rows(Source(data=str(path), task="clasification"), "classification")
