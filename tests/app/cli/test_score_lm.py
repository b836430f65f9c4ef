"""``fastprune score --task causal-lm``: the columns of the file, from hidden states alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from helpers.made_up_turns import sums, write_rows

import fastprune
from fastprune.app.cli import main
from fastprune.app.data import Source
from fastprune.app.data.load import load_rows
from fastprune.app.data.types import CAUSAL_LM
from fastprune.app.finetune.lm.encode import EncodedTurns, collator
from fastprune.app.finetune.lm.model import LanguageModel, load_language_model
from fastprune.app.finetune.lm.scoring import score_turns
from fastprune.app.finetune.trust import NONE
from fastprune.files.score_files import read_columns

COLUMNS = ["index", "row", "el2n", "loss", "entropy", "perplexity", "tokens", "score"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "sums.jsonl", sums(10))


def score(rows: Path, out: Path, *more: object) -> int:
    said = ("score", "--task", "causal-lm", "--data", rows, "--out", out, "--precision", "fp32", *more)
    return main([str(word) for word in said])


@pytest.fixture(scope="module")
def scored(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scores") / "scores.parquet"
    assert score(rows, out, "--tokens", "--batch-size", 3) == 0
    return out


def model_of(rows: Path) -> tuple[LanguageModel, EncodedTurns]:
    split, _ = load_rows(Source(data=str(rows), task=CAUSAL_LM), CAUSAL_LM)
    lm = load_language_model(None, split, NONE)
    return lm, EncodedTurns(split, lm.tokenizer, 1024)


def test_columns(scored: Path) -> None:
    columns = read_columns(scored)
    assert list(columns) == [*COLUMNS, "token_ids", "el2n_tokens", "loss_tokens", "entropy_tokens"]
    assert columns["index"].tolist() == list(range(10)) == columns["row"].tolist()
    np.testing.assert_allclose(columns["perplexity"], np.exp(columns["loss"]), rtol=1e-6)
    np.testing.assert_array_equal(columns["score"], columns["el2n"])


def test_values_are_those_of_the_logits(scored: Path, rows: Path) -> None:
    lm, encoded = model_of(rows)
    batch = collator(lm.tokenizer)([encoded[i] for i in range(10)])
    with torch.no_grad():
        logits = lm.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    table = parquet.read_table(scored).to_pydict()
    for metric, reduce in (("el2n", "norm"), ("loss", "mean"), ("entropy", "mean")):
        expected = fastprune.score(logits, batch["labels"], metric, shift=1, reduce=reduce)
        np.testing.assert_allclose(table[metric], expected.numpy(), rtol=1e-5)
        tokens = fastprune.score(logits, batch["labels"], metric, shift=1)
        counted = batch["labels"][3, 1:] != -100
        np.testing.assert_allclose(table[f"{metric}_tokens"][3], tokens[3, :-1][counted].numpy(), rtol=1e-5)
    assert table["tokens"] == [len(ids) for ids in table["token_ids"]]
    assert lm.tokenizer.decode(table["token_ids"][3]) == " it is 6. #### 6<|end|>"


def test_the_backbone_runs_once_a_batch_and_no_logits_are_made(rows: Path) -> None:
    lm, _ = model_of(rows)
    split, _ = load_rows(Source(data=str(rows), task=CAUSAL_LM), CAUSAL_LM)
    calls: list[str] = []
    lm.model.model.register_forward_hook(lambda *_: calls.append("backbone"))
    lm.model.lm_head.register_forward_hook(lambda *_: calls.append("head"))
    settings = {"batch_size": 4, "max_length": 64, "bf16": False, "tokens": False, "progress": lambda done: None}
    columns = score_turns(lm, split, ["el2n", "loss"], **settings)
    assert calls == ["backbone"] * 3
    assert list(columns) == ["index", "row", "el2n", "loss", "perplexity", "tokens", "score"]


def test_metrics_are_chosen_and_small_ones_may_be_hard(rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    assert score(rows, out, "--metrics", "confidence", "margin", "correct") == 0
    columns = read_columns(out)
    assert list(columns) == ["index", "row", "confidence", "margin", "correct", "tokens", "score"]
    np.testing.assert_array_equal(columns["score"].astype(float), -columns["confidence"].astype(float))
    assert set(columns["correct"].astype(float)) <= {0.0, 1.0}


def test_a_file_with_lists_is_selected_from_and_trained_on(scored: Path, rows: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.parquet"
    assert main(["select", str(scored), "--keep-fraction", "0.5", "--out", str(kept)]) == 0
    assert len(parquet.read_table(kept)) == 5
    words = ["finetune", "--task", "causal-lm", "--data", str(rows), "--test-file", str(rows), "--keep", str(kept)]
    words[words.index("--data")] = "--train-file"
    assert main([*words, "--method", "full", "--epochs", "1", "--out", str(tmp_path / "run")]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["train_examples"] == 5


def test_rows_that_are_cut_are_counted_and_said(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert score(rows, tmp_path / "s.parquet", "--max-length", 4) == 0
    said = capsys.readouterr()
    assert "note: 10 rows are longer than 4 tokens and were cut" in said.err
    assert "a tiny random model is made of the data; its numbers are no evidence" in said.err
    assert "10 examples scored by el2n, loss, entropy: " in said.out


@pytest.mark.parametrize(
    "more, sentence",
    [
        (["--metrics", "grand"], "--metrics grand: causal-lm does not have it; choose el2n, loss, confidence, margin"),
        (["--tokens", "--out", "s.csv"], "--tokens writes lists, and --out s.csv holds none; name it .parquet"),
        (["--dynamics", "d"], "--dynamics holds the class of each text, and --task causal-lm has none; leave it out"),
    ],
)
def test_bad_options(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture, more: list, sentence: str) -> None:
    assert score(rows, tmp_path / "s.parquet", *more) == 2
    assert sentence in capsys.readouterr().err


def test_other_tasks_need_a_model_and_have_no_tokens(table_file: Path, tmp_path: Path, capsys) -> None:
    command = ["score", "--data", str(table_file), "--out", str(tmp_path / "s.csv")]
    assert main(command) == 2
    assert "--model is needed: pass a run folder, or a classifier's folder or hub id" in capsys.readouterr().err
    assert main([*command, "--model", "x", "--tokens"]) == 2
    assert "--tokens is for --task causal-lm" in capsys.readouterr().err
