"""``fastprune select --data``: the rows of the user's file that are kept, as they are in it."""

import csv

import pytest

from fastprune.app.cli import main


@pytest.fixture
def files(tmp_path):
    """(reviews.csv, scores.csv): row 2 has no label and so no score."""
    with (tmp_path / "reviews.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["id", "review", "stars"], *([f"r{i}", f"text, {i}", "" if i == 2 else i % 2] for i in range(10))]
        )
    rows = [i for i in range(10) if i != 2]
    with (tmp_path / "scores.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["index", "row", "id", "score"], *([k, i, f"r{i}", i] for k, i in enumerate(rows))])
    return tmp_path / "reviews.csv", tmp_path / "scores.csv"


def read(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_the_rows_kept_come_back_as_they_were(files, tmp_path, capsys):
    data, scores = files
    out = tmp_path / "subset.csv"
    assert main(["select", str(scores), "--keep-fraction", "0.34", "--data", str(data), "--out", str(out)]) == 0
    assert read(out) == [["id", "review", "stars"], *([f"r{i}", f"text, {i}", str(i % 2)] for i in (7, 8, 9))]
    assert "kept       3 of 9" in capsys.readouterr().out


def test_without_data_the_file_says_which_rows(files, tmp_path):
    _, scores = files
    out = tmp_path / "kept.csv"
    assert main(["select", str(scores), "--keep-fraction", "0.34", "--out", str(out)]) == 0
    assert read(out)[:2] == [["row", "id", "index", "score"], ["7", "r7", "6", "7.0"]]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--out", "reviews.csv"], "--out"),
        (["--out", "subset.jsonl"], "are written as .csv"),
        (["--out", "subset.csv", "--data", "gone.csv"], "is no file"),
    ],
)
def test_refusals(files, tmp_path, monkeypatch, capsys, options, part):
    data, scores = files
    monkeypatch.chdir(tmp_path)
    before = data.read_bytes()
    assert main(["select", str(scores), "--keep-fraction", "0.5", "--data", str(data), *options]) == 2
    assert part in capsys.readouterr().err
    assert data.read_bytes() == before and not (tmp_path / "subset.csv").exists()


@pytest.mark.parametrize("scored", [10, 9])
def test_places_in_a_training_split_are_not_taken_for_rows(files, tmp_path, capsys, scored):
    """A run's own scores and its training dynamics name no rows: a row that was held out shifts all after it."""
    data, _ = files
    scores, out = tmp_path / "places.csv", tmp_path / "subset.csv"
    scores.write_text("index,score\n" + "".join(f"{i},{i}\n" for i in range(scored)))
    status = main(["select", str(scores), "--keep-fraction", "0.34", "--data", str(data), "--out", str(out)])
    if scored == 10:
        assert status == 0 and [row[0] for row in read(out)] == ["id", "r7", "r8", "r9"]
    else:
        assert status == 2 and not out.exists()
        said = capsys.readouterr().err
        assert "has 10 rows, and the scores are of 9 examples" in said and "train with --keep" in said
