"""``fastprune predict`` on files: rows, ids and the kinds of file that are written."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
from helpers.made_up_data import utterances

from fastprune.app.cli import main


@pytest.fixture(scope="module")
def run(table_file: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("predict") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        arguments = ["finetune", "--data", table_file, "--model", tiny_model, "--out", out, "--precision", "fp32"]
        arguments += ["--epochs", "2", "--lr", "3e-3", "--batch-size", "8", "--method", "full"]
        assert main([str(a) for a in arguments]) == 0
    return out


def predict(run: Path, data: Path, out: Path, *more: str) -> int:
    return main(
        [str(a) for a in ("predict", "--model", run, "--data", data, "--out", out, "--precision", "fp32", *more)]
    )


def test_every_row_with_a_text_is_predicted(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    texts = [text for text, _, _ in utterances(12, 5)]
    rows = [{"key": f"k{i}", "text": text} for i, text in enumerate(texts)]
    rows[3]["text"] = ""
    (tmp_path / "blind.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for kind in ("tsv", "csv", "jsonl", "parquet"):
        assert predict(run, tmp_path / "blind.jsonl", tmp_path / f"p.{kind}", "--id-column", "key") == 0
    assert "11 rows predicted" in capsys.readouterr().out
    table = parquet.read_table(tmp_path / "p.parquet").to_pydict()
    assert list(table) == ["row", "id", "prediction", "probability"]
    assert table["row"] == [i for i in range(12) if i != 3] and table["id"] == [f"k{i}" for i in table["row"]]
    expected = ["BookFlight" if texts[i].startswith("book") else "PlayMusic" for i in table["row"]]
    assert table["prediction"] == expected and all(0.5 <= p <= 1 for p in table["probability"])
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [line["prediction"] for line in lines] == expected
    assert (tmp_path / "p.tsv").read_text() == (tmp_path / "p.csv").read_text().replace(",", "\t")


def test_what_cannot_be_predicted_is_one_sentence(
    run: Path, table_file: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    cases = [
        ((tiny_model, table_file, tmp_path / "p.csv"), "it takes a sequence or token classifier"),
        ((run, table_file, tmp_path / "p.txt"), "a file of predictions ends in .tsv"),
        ((run, table_file, tmp_path / "no" / "p.csv"), "make it first"),
        ((run, tmp_path / "none.csv", tmp_path / "p.csv"), "none.csv"),
        ((run, table_file, table_file), "would be lost"),
    ]
    for arguments, named in cases:
        assert predict(*arguments) == 2
        said = capsys.readouterr().err
        assert named in said and said.count("\n") == 1, said
    assert not (tmp_path / "p.csv").exists()
