"""Files through the builders of `datasets`: every cell stays the text it is, and what is wrong is named."""

import gzip
import json
import os
import zipfile

import pytest

from fastprune.app.data import Source, load, load_rows
from fastprune.app.data.builders import read_table
from fastprune.app.data.subset import write_subset
from fastprune.app.data.text import kind_of
from fastprune.errors import UsageError

ODD = [
    "NA",
    "null",
    "nan",
    "007",
    "01",
    "1.0",
    "None",
    "-1",
    "2020-01-01",
    "true",
    " spaced ",
    "1e5",
    "#N/A",
    "\u2028x",
]


@pytest.fixture(autouse=True)
def no_cache_of_ours(tmp_path_factory, monkeypatch):
    """Nothing is written to the user's cache."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HF_HOME", str(home))
    yield
    assert not [path for path in home.rglob("*") if path.is_file()]


def write(path, cells):
    """The cells as column "text", with a column "n", in the form that the name says."""
    rows = [{"text": cell, "n": str(i)} for i, cell in enumerate(cells)]
    kind = kind_of(path)
    if kind == ".csv":
        text = "text,n\n" + "".join('"{}",{}\n'.format(r["text"].replace('"', '""'), r["n"]) for r in rows)
    elif kind == ".tsv":
        text = "text\tn\n" + "".join(f"{r['text']}\t{r['n']}\n" for r in rows)
    elif kind == ".json":
        text = json.dumps(rows)
    elif kind == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.table({k: [r[k] for r in rows] for k in ("text", "n")}), path)
        return
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(path.stem, text)
    else:
        path.write_text(text)


@pytest.mark.parametrize(
    "name", ["a.csv", "a.tsv", "a.json", "a.jsonl", "a.parquet", "a.csv.gz", "a.jsonl.gz", "a.tsv.zip"]
)
def test_cells_stay_the_texts_they_are(tmp_path, name):
    write(tmp_path / name, ODD)
    table = read_table(tmp_path / name)
    assert table.columns["text"] == ODD
    assert table.columns["n"] == [str(i) for i in range(len(ODD))]


def test_quotes_line_ends_and_long_cells(tmp_path):
    long = "x" * 200_000
    (tmp_path / "a.csv").write_bytes(
        b'\xef\xbb\xbftext,label\r\n"say ""hi"", you",a\r\n"two\nlines",b\r\n\r\ncaf\xc3\xa9 ,a\r\n'
        + f'"{long}",b\n'.encode()
    )
    columns = read_table(tmp_path / "a.csv").columns
    assert columns["text"] == ['say "hi", you', "two\nlines", "caf\u00e9 ", long]
    assert list(columns) == ["text", "label"]
    (tmp_path / "a.tsv").write_text('sentence\tlabel\n"never closed\t1\nsay "x"\t0\n')
    assert read_table(tmp_path / "a.tsv").columns["sentence"] == ['"never closed', 'say "x"']


def test_json_values_become_text(tmp_path):
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": None}, {"text": "c", "label": 3, "tags": ["O", "B-x"]}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = read_table(tmp_path / "a.jsonl").columns
    assert columns["label"] == ["1", None, "3"] and columns["tags"] == [None, None, ["O", "B-x"]]


def test_files_without_a_header_and_in_other_encodings(tmp_path):
    (tmp_path / "train.csv").write_bytes("caf\u00e9,a\nbar,b\n".encode("latin-1"))
    (tmp_path / "test.csv").write_bytes(b"x,a\n")
    source = Source(data=str(tmp_path), columns=("text", "label"), encoding="latin-1")
    assert load(source).train.texts == ["caf\u00e9", "bar"]
    with pytest.raises(UsageError, match=r"train.csv: not UTF-8 text.*--encoding"):
        load(Source(data=str(tmp_path), columns=("text", "label")))
    with pytest.raises(UsageError, match="--encoding klingon is unknown"):
        load(Source(data=str(tmp_path), columns=("text", "label"), encoding="klingon"))


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("a.csv", "text,label\na,b,c\nd,e,f\n", ["line 2", "3 columns, but 2 names"]),
        ("a.csv", "text,label\na,b\nd,e,f\n", ["line 3", "3 columns where the header has 2"]),
        ("a.csv", 'text,label\na,b\n"c,d\ne,f\n', ["line 4"]),
        ("a.csv", "text,text\na,b\n", ["two columns of the same name, 'text'"]),
        ("a.tsv", "\t".join(["x" * 9000] * 2) + "\na\tb\n", ["two columns of the same name, 'xxx"]),
        ("a.csv", ",".join(f"c{i}" for i in range(9999)) + ",c7\n" + "1," * 9999 + "1\n", ["same name, 'c7'"]),
        ("a.csv", "text,label\n", ["no rows"]),
        ("a.csv", "", ["no rows"]),
        ("a.jsonl", '{"text": "a"}\n{\'text\': 1}\n', ["line 2", "not JSON"]),
        ("a.jsonl", '{"text": "a"}\n[1]\n', ["line 2", "not a JSON object"]),
        ("a.jsonl", '{"text": "a"}\n{"text": "\\ud800"}\n', ["line 2", "not JSON"]),
        ("a.jsonl", '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}\n", ["line 1"]),
        ("a.json", '[{"text": "a"},\n {"text": ]', ["line 2", "not JSON"]),
        ("a.json", "[1, 2]", ["no column has a usual name of a label"]),
        ("a.json", "{}", ["no rows"]),
        ("a.jsonl", "", ["no rows"]),
        ("a.parquet", "no parquet", ["a.parquet"]),
        ("a.csv.gz", "not packed", ["a.csv.gz", "cannot be read"]),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence_with_the_line(tmp_path, name, text, parts):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError) as error:
        load(str(tmp_path / name))
    assert all(part in str(error.value) for part in [*parts, name]), error.value
    assert len(str(error.value)) < 500 and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "options", "parts"),
    [
        ("text,review,label\na,b,c\n", {}, ["may be in column 'text' or 'review'", "--text-column"]),
        ("phrase,label\na,b\n", {}, ["no column has a usual name of a text", "'phrase', 'label'"]),
        ("text,y\na,b\n", {}, ["--label-column", "'text', 'y'"]),
        ("text,y\na,b\n", {"label_column": "z"}, ["--label-column 'z'", "'text', 'y'"]),
        ("text,label\na,b\n", {"pair_column": "p"}, ["--pair-column 'p'"]),
        ("text,label,tags\na b,c,O\n", {}, ["line 2", "2 words but 1 tags"]),
        ("text,label\na,x\nb,x\n", {}, ["only one class, 'x'"]),
        ("text,label\na,1\nb,2\n", {"task": "tokens"}, ["needs a tag for each word"]),
        ("text,label\na,1\nb,2\n", {"task": "pair"}, ["needs a second text"]),
        ("text,label\na,1\nb,x\n", {"task": "regression"}, ["line 3", "'x' is no number"]),
        ("text,label\n" + "".join(f"t{i},l{i}\n" for i in range(40)), {}, ["40 of 40 labels differ", "--task"]),
        ("text,label,part\na,b,train\n", {"split_column": "part"}, ["only one class"]),
        ("text,label,part\na,b,else\n", {"split_column": "part"}, ["line 2", "--split-column 'part' is 'else'"]),
    ],
)
def test_columns_and_tasks_in_doubt(tmp_path, text, options, parts):
    (tmp_path / "train.csv").write_text(text)
    with pytest.raises(UsageError) as error:
        load(Source(data=str(tmp_path / "train.csv"), **options))
    assert all(part in str(error.value) for part in [*parts, "train.csv"]), error.value


def test_two_files_for_one_split_and_folders_without_any(tmp_path):
    with pytest.raises(UsageError, match="no file in it has train, validation or test in its name"):
        load(str(tmp_path))
    (tmp_path / "train.csv").write_text("text,label\na,b\n")
    (tmp_path / "train.tsv").write_text("text\tlabel\na\tb\n")
    with pytest.raises(UsageError, match="'train.csv', 'train.tsv'"):
        load(str(tmp_path))
    with pytest.raises(UsageError, match="--data and --train-file"):
        load(Source(data="x", train_file="y"))
    with pytest.raises(UsageError, match="gone.csv: no such file"):
        load(Source(train_file=str(tmp_path / "gone.csv")))
    with pytest.raises(UsageError, match="is empty"):
        load("")


def test_folders_of_save_to_disk(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    split = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features=features)
    datasets.DatasetDict(train=split, test=split).save_to_disk(tmp_path / "saved")
    data = load(str(tmp_path / "saved"))
    assert data.train.labels == ["no", "yes"] and len(data.test) == 2
    for file in (tmp_path / "saved" / "train").glob("*.arrow"):
        os.truncate(file, 10)
    with pytest.raises(UsageError, match="not a whole folder of save_to_disk"):
        load(str(tmp_path / "saved"))


def test_an_archive_of_several_files_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("train.csv", "test.csv"):
            archive.writestr(name, "text,label\na,b\n")
    (tmp_path / "a.zip").rename(tmp_path / "a.csv.zip")
    with pytest.raises(UsageError, match=r"a.csv.zip: cannot be read \(an archive of 2 files, and one is wanted\)"):
        load(str(tmp_path / "a.csv.zip"))


def test_several_parts_of_one_split(tmp_path):
    for part in range(2):
        write(tmp_path / f"train-0000{part}-of-00002.parquet", [f"p{part}"])
    rows, _ = load_rows(Source(data=str(tmp_path), label_column="n"), "classification")
    assert rows.texts == ["p0", "p1"]


def test_blank_lines_are_no_rows_and_shift_nothing(tmp_path):
    """Before the header, after it, and of blanks alone; the rows that are written back are counted alike."""
    path = tmp_path / "a.csv"
    path.write_text("\ntext,label\n\na,x\n   \nb,y\n,\nc,z\n")
    table = read_table(path)
    assert table.columns == {"text": ["a", "b", "c"], "label": ["x", "y", "z"]}
    assert [table.line_of(row) for row in range(3)] == ["line 4", "line 6", "line 8"]
    write_subset(path, [1, 2], tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_text() == "text,label\nb,y\nc,z\n"
    path.write_text("text,label\n\na,b,c\nd,e,f\n")
    with pytest.raises(UsageError, match="line 3: 3 columns, but 2 names"):
        load(str(path))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_texts_that_look_like_dates_stay_as_they_are(tmp_path, name):
    write(tmp_path / name, ["2020-01-01", "2021-12-31T10:00:00"])
    assert read_table(tmp_path / name).columns["text"] == ["2020-01-01", "2021-12-31T10:00:00"]


def test_parts_with_other_columns_are_refused(tmp_path):
    write(tmp_path / "train-0.parquet", ["a"])
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"text": ["b"]}), tmp_path / "train-1.parquet")
    with pytest.raises(UsageError, match="its columns are not those of"):
        load(str(tmp_path))
