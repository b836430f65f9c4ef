"""Examples of language models: three forms, from every kind of file, and sentences where a row is malformed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from fastprune.app.data import Source, load
from fastprune.app.data.fingerprint import split_fingerprint
from fastprune.app.data.load import load_rows
from fastprune.app.data.types import CAUSAL_LM, Split, Turn
from fastprune.errors import UsageError
from fastprune.files.parquet import pyarrow_for

CHAT = [{"role": "user", "content": " hi"}, {"role": "assistant", "content": "hello "}]
PROMPTS = [{"prompt": f"what is {i}? ", "completion": f" {i}"} for i in range(12)]


def written(path: Path, rows: list) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read(path: str, **options: str) -> tuple[Split, tuple[str, ...]]:
    return load_rows(Source(data=path, task=CAUSAL_LM, **options), CAUSAL_LM, labels_needed=True)


@pytest.mark.parametrize(
    "row, turns, text",
    [
        (PROMPTS[3], (Turn("prompt", "what is 3? "), Turn("completion", " 3")), "what is 3? "),
        ({"question": "a", "answer": "b"}, (Turn("prompt", "a"), Turn("completion", "b")), "a"),
        ({"messages": CHAT}, (Turn("user", " hi"), Turn("assistant", "hello ")), " hi"),
        ({"text": " as it is\n"}, (Turn("text", " as it is\n"),), " as it is\n"),
    ],
)
def test_forms(tmp_path: Path, row: dict, turns: tuple, text: str) -> None:
    split, notes = read(written(tmp_path / "a.jsonl", [row]))
    assert split.turns == [turns] and split.texts == [text] and split.kind == CAUSAL_LM and not split.unlabelled
    assert len(notes) == 1 and "the examples are read as" in notes[0]


def test_every_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(PROMPTS))
    with (tmp_path / "a.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["prompt", "completion"])
        table.writeheader()
        table.writerows(PROMPTS)
    pyarrow, parquet = pyarrow_for("test")
    parquet.write_table(pyarrow.Table.from_pylist(PROMPTS), tmp_path / "a.parquet")
    expected = read(written(tmp_path / "a.jsonl", PROMPTS))[0]
    for kind in ("json", "csv", "parquet"):
        assert read(str(tmp_path / f"a.{kind}"))[0].turns == expected.turns, kind


def test_messages_of_parquet_and_of_csv(tmp_path: Path) -> None:
    pyarrow, parquet = pyarrow_for("test")
    parquet.write_table(pyarrow.Table.from_pylist([{"messages": CHAT}]), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text('messages\n"' + json.dumps(CHAT).replace('"', '""') + '"\n')
    for kind in ("parquet", "csv"):
        split, _ = read(str(tmp_path / f"a.{kind}"))
        assert split.turns == [(Turn("user", " hi"), Turn("assistant", "hello "))], kind


def test_columns_by_name(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", [{"q": "a", "a": "b", "c": CHAT, "n": 7}])
    assert read(path, text_column="q", pair_column="a")[0].turns == [(Turn("prompt", "a"), Turn("completion", "b"))]
    assert read(path, text_column="a")[0].turns == [(Turn("text", "b"),)]
    split, _ = read(path, text_column="c", id_column="n")
    assert split.turns == [(Turn("user", " hi"), Turn("assistant", "hello "))] and split.ids == ["7"]


def test_a_test_split_is_held_out_and_same_prompts_stay_together(tmp_path: Path) -> None:
    twice = [{"prompt": row["prompt"], "completion": answer} for row in PROMPTS for answer in ("x", "y")]
    data = load(Source(data=written(tmp_path / "a.jsonl", twice), task=CAUSAL_LM))
    assert data.kind == CAUSAL_LM and data.metrics == ("loss", "perplexity") and data.label_names is None
    assert len(data.train) + len(data.test) == 24 and len(data.test) >= 2
    assert not set(data.train.texts) & set(data.test.texts)
    assert any("held out for one (seed 0)" in note for note in data.notes)


def test_rows_without_anything_are_left_out_and_said(tmp_path: Path) -> None:
    split, notes = read(written(tmp_path / "a.jsonl", [{"messages": CHAT}, {"other": 1}, {"messages": CHAT}]))
    assert list(split.row_numbers) == [0, 2]
    assert notes[1].endswith("1 without messages of 3 rows are left out")


def test_the_fingerprint_sees_every_turn() -> None:
    def of(*turns: Turn) -> str:
        return split_fingerprint(Split(["a"], None, turns=[turns]))

    prints = {
        of(Turn("prompt", "a"), Turn("completion", "b")),
        of(Turn("prompt", "a"), Turn("completion", "c")),
        of(Turn("user", "a"), Turn("assistant", "b")),
        of(Turn("text", "a")),
        split_fingerprint(Split(["a"], None)),
    }
    assert len(prints) == 5


@pytest.mark.parametrize(
    "row, sentence",
    [
        ({"prompt": "a", "completion": " "}, "line 2: column 'completion' is empty: fill it in, or remove the row."),
        ({"prompt": "a"}, "line 2: column 'completion' is empty: fill it in, or remove the row."),
        ({"prompt": ["a"], "completion": "b"}, "line 2: column 'prompt' holds a list: write one text, or all turns"),
    ],
)
def test_bad_prompts(tmp_path: Path, row: dict, sentence: str) -> None:
    refused(written(tmp_path / "a.jsonl", [PROMPTS[0], row]), sentence)


@pytest.mark.parametrize(
    "messages, sentence",
    [
        ("hi", "line 2: column 'messages' holds 'hi', and no list of messages: write [{"),
        ([], "line 2: column 'messages' holds [], and no list of messages: write [{"),
        (CHAT[:1], "line 2: column 'messages' ends with a message of 'user': end it with the answer"),
        (
            [*CHAT, {"role": "bot", "content": "x"}],
            "column 'messages', message 3: the role is 'bot': choose one of sys",
        ),
        ([{"role": "user"}, CHAT[1]], "line 2: column 'messages', message 1: "),
        ([CHAT[0], {"role": "assistant", "content": ["x"]}], "message 2: the content is ['x']: write it as a text."),
        ([CHAT[0], {"role": "assistant", "content": ""}], "message 2: the content is '': write it as a text."),
        ([{"from": "human", "value": "x"}], "message 1: "),
    ],
)
def test_bad_messages(tmp_path: Path, messages: object, sentence: str) -> None:
    refused(written(tmp_path / "a.jsonl", [{"messages": CHAT}, {"messages": messages}]), sentence)


@pytest.mark.parametrize(
    "row, options, sentence",
    [
        ({"a": "b"}, {}, "no columns prompt and completion, no messages and no text, only 'a': name them with"),
        ({"a": "b"}, {"text_column": "x"}, "no column --text-column 'x': choose one of 'a'."),
        ({"a": "b"}, {"pair_column": "a"}, "--pair-column names completions: name the prompts in --text-column."),
        ({"text": "b"}, {"label_column": "text"}, "--label-column text: --task causal-lm learns from texts alone"),
    ],
)
def test_bad_columns(tmp_path: Path, row: dict, options: dict, sentence: str) -> None:
    refused(written(tmp_path / "a.jsonl", [row]), sentence, **options)


def test_without_a_task_the_sentence_names_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="or say --task causal-lm"):
        load(written(tmp_path / "a.jsonl", PROMPTS))


def test_the_packaged_data_are_no_texts_to_continue() -> None:
    with pytest.raises(
        UsageError, match="--task causal-lm was given, but the packaged default data is for joint: name"
    ):
        load(Source(task=CAUSAL_LM))


def refused(path: str, sentence: str, **options: str) -> None:
    with pytest.raises(UsageError) as error:
        read(path, **options)
    message = str(error.value)
    assert sentence in message and "\n" not in message
    assert path in message or message.startswith("--")
