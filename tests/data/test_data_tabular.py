"""Tables: delimiters, quoting, column choice, the held-out test split."""

import json
import warnings

import pytest

from fastprune.data import load
from fastprune.errors import UsageError


@pytest.fixture
def csv_folder(tmp_path):
    root = tmp_path / "bank"
    root.mkdir()
    (root / "train.csv").write_bytes(
        b"\xef\xbb\xbftext,category\r\n"
        b'"I ordered it, but ""why"" wait?",card\r\n'
        b'"two\nlines",loan\r\n'
        b"\r\n"
        b"caf\xc3\xa9 ,card\r\n"
    )
    (root / "test.csv").write_text("text,category\nhi,card\nho,gold\n")
    (root / "categories.json").write_text("[]")
    return root


def test_csv_folder(csv_folder):
    data = load(str(csv_folder))
    assert data.train.texts == ['I ordered it, but "why" wait?', "two\nlines", "caf\u00e9"]
    assert data.intent_names == ["card", "loan"]
    assert data.validation is None and data.unseen == {"intent": {"gold": 1}}
    assert not data.joint


@pytest.mark.parametrize("name", ["validation", "valid", "dev"])
def test_validation_file(csv_folder, name):
    (csv_folder / f"{name}.jsonl").write_text('{"utterance": "x", "intent": "loan"}\n')
    assert load(str(csv_folder)).validation.texts == ["x"]


def test_two_files_for_one_split(csv_folder):
    (csv_folder / "train.tsv").write_text("text\tlabel\na\tb\n")
    with pytest.raises(UsageError, match="train.csv and train.tsv"):
        load(str(csv_folder))


def test_folder_without_anything_known(tmp_path):
    with pytest.raises(UsageError, match="neither train/ with seq.in"):
        load(str(tmp_path))


def test_tsv_quotes_are_plain_characters(tmp_path):
    (tmp_path / "train.tsv").write_text('sentence\tlabel\n"open and never closed\t1\nsay "x"\t0\n')
    (tmp_path / "test.tsv").write_text("sentence\tlabel\na, b\t1\n")
    data = load(str(tmp_path))
    assert data.train.texts == ['"open and never closed', 'say "x"']
    assert data.train.intents == ["1", "0"]


def test_jsonl_numbers_pairs_and_slots(tmp_path):
    rows = [
        {"question": "a b", "other": "c", "label": 3, "tags": "O B-x"},
        {"question": "d  e", "other": "f", "label": 0, "tags": ["B-x", "I-x"]},
    ]
    for role in ("train", "test"):
        (tmp_path / f"{role}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = load(str(tmp_path), pair_column="other", slots_column="tags")
    assert data.joint
    assert data.train.texts == ["a b", "d e"]
    assert data.train.intents == ["3", "0"]
    assert data.train.pairs == ["c", "f"]
    assert data.train.slots == [["O", "B-x"], ["B-x", "I-x"]]


@pytest.mark.parametrize(
    ("content", "arguments", "parts"),
    [
        (
            "text,sentence,label\na,b,c\n",
            {},
            ["more than one column", "text_column", "'text', 'sentence', 'label'"],
        ),
        ("phrase,label\na,b\n", {}, ["no column named text or sentence", "'phrase', 'label'"]),
        ("text,y\na,b\n", {}, ["label_column", "'text', 'y'"]),
        ("text,y\na,b\n", {"label_column": "z"}, ["label_column='z'", "'text', 'y'"]),
        ("text,label\na,b\n", {"pair_column": "p"}, ["pair_column='p'"]),
        ("text,label,tags\na b,c,O\n", {"slots_column": "tags"}, ["line 2", "2 words but 1 slot tags"]),
        ("text,label\na,b\nc\n", {}, ["line 3", "1 columns", "header has 2"]),
        ("text,label\na,b\nc,\n", {}, ["line 3", "'label' is empty"]),
        ('text,label\na,b\n"c,d\ne,f\n', {}, ["line 4", "quotes"]),
        ("text,text\na,b\n", {}, ["two columns of the same name"]),
        ("text,label\n", {}, ["no rows"]),
        ("", {}, ["no rows"]),
    ],
)
def test_bad_tables(tmp_path, content, arguments, parts):
    path = tmp_path / "train.csv"
    path.write_text(content)
    with pytest.raises(UsageError) as error:
        load(str(path), **arguments)
    assert all(part in str(error.value) for part in [*parts, "train.csv"]), error.value


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("{'text': 1}", "line 2: not JSON"),
        ("[1]", "line 2: not a JSON object"),
        ('{"text": ["a"], "label": "b"}', "line 2: column 'text' holds a list"),
        ('{"text": "a"}', "line 2: column 'label' is empty"),
    ],
)
def test_bad_json_lines(tmp_path, line, part):
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "a", "label": "b"}\n' + line + "\n")
    with pytest.raises(UsageError, match=part):
        load(str(path))


def test_hold_out_is_a_tenth_seeded_and_spread_over_the_classes(tmp_path):
    sizes = {"big": 600, "mid": 300, "small": 95, "pair": 4, "lone": 1}
    rows = [f"{label} {i},{label}" for label, n in sizes.items() for i in range(n)]
    path = tmp_path / "all.csv"
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    with pytest.warns(UserWarning, match=r"held out \d+ of 1000 rows") as caught:
        data = load(str(path), seed=1)
    assert len(caught) == 1
    assert len(data.train) + len(data.test) == 1000
    assert not set(data.train.texts) & set(data.test.texts)
    for label, n in sizes.items():
        assert abs(data.test.intents.count(label) - n / 10) <= 1
        assert label in data.train.intents
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert load(str(path), seed=1) == data
        assert load(str(path), seed=2).test.texts != data.test.texts


def test_too_small_to_hold_out(tmp_path):
    path = tmp_path / "one.csv"
    path.write_text("text,label\na,b\n")
    with pytest.raises(UsageError, match="too few rows"):
        load(str(path))


def test_paths_that_are_not_data(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        load(str(tmp_path / "gone.csv"))
    other = tmp_path / "train.txt"
    other.write_text("x")
    with pytest.raises(UsageError, match="convert or rename"):
        load(str(other))
    with pytest.raises(UsageError, match="is empty"):
        load("")
