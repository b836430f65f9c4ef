"""SlotGated folders: what is read and which file and line an error names."""

import pytest

from fastprune.app.data import Source, load
from fastprune.errors import UsageError


def write(folder, role, texts, tags, labels):
    (folder / role).mkdir(parents=True)
    for name, lines in (("seq.in", texts), ("seq.out", tags), ("label", labels)):
        if lines is not None:
            (folder / role / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "trips"
    write(
        root,
        "train",
        ["fly  to new york ", "caf\u00e9 x\u00a0y"],
        ["O O B-city I-city", "O B-city"],
        ["go#fare", "eat"],
    )
    write(root, "valid", ["fly"], ["O"], ["go#fare"])
    write(root, "test", ["fly", "sleep in rome"], ["O", "O O B-town"], ["go#fare", "rest"])
    return root


def test_reads_all_splits(folder):
    data = load(str(folder))
    assert data.name == "trips"
    # Double blanks go; a no-break space does not separate words.
    assert data.train.texts == ["fly to new york", "caf\u00e9 x\u00a0y"]
    assert data.train.tags == [["O", "O", "B-city", "I-city"], ["O", "B-city"]]
    assert data.label_names == ["eat", "go#fare"]
    assert data.tag_names == ["O", "B-city", "I-city"]
    assert len(data.held_out["validation"]) == 1 and len(data.test) == 2 and data.reported == ("test",)
    assert data.unseen == {"label": {"rest": 1}, "tag": {"B-town": 1}}


@pytest.mark.parametrize("name", ["dev", "validation"])
def test_other_names_of_validation(folder, name):
    (folder / "valid").rename(folder / name)
    assert len(load(str(folder)).held_out["validation"]) == 1


def test_validation_is_optional_but_not_double(folder):
    write(folder, "dev", ["fly"], ["O"], ["eat"])
    with pytest.raises(UsageError, match="two folders for validation"):
        load(str(folder))
    for name in ("valid", "dev"):
        for file in (folder / name).iterdir():
            file.unlink()
        (folder / name).rmdir()
    assert load(str(folder)).validation is None


def test_windows_line_ends_and_no_last_newline(folder):
    reference = load(str(folder))
    for file in (folder / "train").iterdir():
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n").rstrip())
    (folder / "train" / "seq.in").write_bytes(b"\xef\xbb\xbf" + (folder / "train" / "seq.in").read_bytes())
    assert load(str(folder)).fingerprint == reference.fingerprint


def test_folders_without_tags_are_classification(folder):
    for role in ("train", "valid", "test"):
        (folder / role / "seq.out").unlink()
    data = load(str(folder))
    assert data.kind == "classification" and data.train.labels == ["go#fare", "eat"]


@pytest.mark.parametrize(
    ("role", "name", "text", "parts"),
    [
        ("train", "seq.out", None, ["train/seq.out", "no such file"]),
        ("test", "label", None, ["test/label", "no such file"]),
        ("train", "seq.out", "O O B-city I-city\nO\n", ["train/seq.in, line 2", "2 words but 1 tags"]),
        ("train", "seq.out", "O O B-city I-city\n", ["train/seq.out", "1 lines", "seq.in has 2"]),
        ("train", "label", "a\nb\nc\n", ["train/label", "3 lines"]),
        ("valid", "seq.in", "\n", ["valid/seq.in", "no row has all that it needs"]),
        ("test", "seq.out", "O\nO O X-town\n", ["test/seq.in, line 2", "'X-town'"]),
    ],
)
def test_errors_name_file_and_line(folder, role, name, text, parts):
    path = folder / role / name
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(UsageError) as error:
        load(str(folder))
    assert all(part in str(error.value) for part in parts), error.value


def test_an_empty_line_is_left_out_and_counted(folder):
    (folder / "train" / "label").write_text("go#fare\n\n")
    data = load(str(folder))
    assert data.train.texts == ["fly to new york"] and data.train.rows == [0]
    assert any("1 without label of 2 rows" in note for note in data.notes)


def test_without_a_test_folder_validation_is_reported(folder):
    (folder / "test").rename(folder / "somewhere")
    assert load(str(folder)).reported == ("validation",)


def test_not_utf8(folder):
    (folder / "test" / "seq.in").write_bytes(b"caf\xe9\nsleep in rome\n")
    with pytest.raises(UsageError, match="byte 3 is not UTF-8"):
        load(str(folder))


def test_columns_make_no_sense_here(folder):
    with pytest.raises(UsageError, match="no column --text-column 'x': choose one of 'text', 'label', 'tags'"):
        load(Source(data=str(folder), text_column="x"))
