"""``--task causal-lm`` from the data to the report, with tiny models made of the data."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
import torch
from helpers.made_up_turns import sums, write_rows

from fastprune.app.cli import main
from fastprune.app.finetune import record

EPOCHS = 3


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """PyTorch sums in another order with two, and runs are compared bit by bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "sums.jsonl", sums(40))


def command(rows: Path, out: Path, *more: object) -> list[str]:
    said = ("finetune", "--task", "causal-lm", "--data", rows, "--out", out, "--precision", "fp32", "--max-length", 64)
    return [str(word) for word in (*said, *more)]


def metrics(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def run(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(command(rows, out, "--method", "el2n-free", "el2n", "infobatch", "--keep-fraction", "0.5")) == 0
    return out


def test_rows_of_every_epoch(run: Path) -> None:
    rows = metrics(run)
    assert [(row["run"], row["epoch"]) for row in rows] == [
        (name, epoch)
        for name in ("full", "el2n-free 0.5", "el2n 0.5", "infobatch 0.5")
        for epoch in range(1, EPOCHS + 1)
    ]
    for row in rows:
        assert row["perplexity"] == pytest.approx(math.exp(row["loss"])) and row["tokens_seen"] > 0
    seen = {row["run"]: row["tokens_seen"] for row in rows}
    assert seen["el2n-free 0.5"] < seen["full"]
    config = json.loads((run / "config.json").read_text())
    assert (
        config["task"] == "causal-lm"
        and config["metrics"] == ["loss", "perplexity"]
        and "no evidence" in config["model"]
    )
    assert (config["lr"], config["epochs"], config["lora"]) == (3e-3, EPOCHS, None)


def test_it_learns(run: Path) -> None:
    full = [row["loss"] for row in metrics(run) if row["run"] == "full"]
    assert full[-1] < full[0] - 0.2


def test_the_report_speaks_of_the_loss(run: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["report", str(run)]) == 0
    said = capsys.readouterr().out
    assert "Perplexity" in said and "Tokens/s" in said and "Decides: loss on test" in said
    summary = json.loads((run / "summary.json").read_text())
    by_run = {row["run"]: row for row in summary["rows"]}
    pruned = by_run["el2n-free 0.5"]
    assert pruned["gain"] == pytest.approx(by_run["full"]["loss"] - pruned["loss"]), "positive where the loss is lower"
    assert pruned["tokens_per_second"] > 0
    page = (run / "report.md").read_text()
    assert "raised the loss by" in page or "lowered the loss by" in page or "kept the loss" in page
    assert not (run / "classes.json").exists()
    assert "Most useful examples" in page and "####" in page, "the answers are shown beside the questions"


def test_scores_of_every_selection(run: Path) -> None:
    table = parquet.read_table(run / "scores.parquet").to_pandas()
    chosen = table[table["run"] == "el2n 0.5"].groupby("epoch")["kept"].sum()
    assert chosen.tolist() == [18, 18] and (table["score"] >= 0).all()


def test_the_model_is_one_of_transformers(run: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(run / "model")
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    assert model.config.vocab_size == len(tokenizer) and tokenizer.chat_template


def test_a_run_folder_is_finetuned_further(run: Path, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "further"
    assert main(command(rows, out, "--model", run, "--epochs", 1, "--method", "full")) == 0
    assert metrics(out)[0]["loss"] < metrics(run)[0]["loss"] - 0.2, "it goes on from what was learned"
    assert json.loads((out / "config.json").read_text())["lr"] == 2e-5


@pytest.fixture(scope="module")
def adapted(run: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("peft")
    out = tmp_path_factory.mktemp("runs") / "lora"
    more = ("--model", run, "--lora", 4, "--lr", "1e-2", "--epochs", 2, "--best", "--test-file", rows)
    words = command(rows, out, *more)
    words[words.index("--data")] = "--train-file"
    words += ["--validation-file", str(rows)]
    assert main(words) == 0
    return out


def test_adapters_are_trained_alone_and_merged(run: Path, adapted: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    before = AutoModelForCausalLM.from_pretrained(run / "model")
    after = AutoModelForCausalLM.from_pretrained(adapted / "model")
    changed = {name for name, value in after.state_dict().items() if not torch.equal(value, before.state_dict()[name])}
    assert changed and all("_proj" in name for name in changed), "embeddings, norms and head are as they were"
    again = PeftModel.from_pretrained(before, adapted / "model" / "adapter").merge_and_unload()
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, after.state_dict()[name])


def test_the_best_epoch_of_adapters_is_the_lowest_loss(adapted: Path) -> None:
    held = json.loads((adapted / "summary.json").read_text())["model_run"]
    losses = {
        row["epoch"]: row["loss"]
        for row in metrics(adapted)
        if row["run"] == held["run"] and row["split"] == "validation"
    }
    assert held["epoch"] == min(losses, key=losses.__getitem__)


@pytest.mark.parametrize("lora", [False, True])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    rows: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: bool
) -> None:
    if lora:
        pytest.importorskip("peft")
    more = ("--method", "el2n-free", "--keep-fraction", "0.5", *(("--lora", 2, "--model", run) if lora else ()))
    assert main(command(rows, tmp_path / "whole", *more)) == 0
    original, calls = record.Recorder.step, []

    def interrupted(self: record.Recorder, *arguments: object) -> None:
        calls.append(1)
        if len(calls) == 9:  # the second epoch of the first run, whose epochs have 5 steps
            raise KeyboardInterrupt
        original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(record.Recorder, "step", interrupted)
        assert main(command(rows, tmp_path / "again", *more)) == 130
    assert {row["epoch"] for row in metrics(tmp_path / "again")} == {1}
    assert main(["finetune", "--out", str(tmp_path / "again"), "--resume"]) == 0
    whole, again = left_by(tmp_path / "whole"), left_by(tmp_path / "again")
    for part in whole:
        assert whole[part] == again[part], part


def left_by(out: Path) -> dict:
    """Everything of a run that may not depend on the clock, bit by bit."""
    return {
        "files": sorted(str(path.relative_to(out)) for path in out.rglob("*")),
        "metrics": [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in metrics(out)],
        "scores": parquet.read_table(out / "scores.parquet").to_pylist(),
        "model": (out / "model" / "model.safetensors").read_bytes(),
    }


@pytest.mark.parametrize("lora", [False, True])
def test_in_bf16_every_run_begins_alike_and_keeping_everything_changes_nothing(
    rows: Path, run: Path, tmp_path: Path, lora: bool
) -> None:
    """Accelerate prepares a model for bf16 only once, so each run needs a model of its own."""
    if lora:
        pytest.importorskip("peft")
    words = command(rows, tmp_path / "run", "--method", "random", "--keep-fraction", "1.0", "--epochs", 1)
    words[words.index("fp32")] = "bf16"
    assert main([*words, "--warmup-epochs", "1", *(["--lora", "2", "--model", str(run)] if lora else [])]) == 0
    first, second = metrics(tmp_path / "run")
    for name in ("loss", "train_loss", "tokens_seen"):
        assert first[name] == second[name], name


def test_answers_are_written_by_the_model(tmp_path: Path) -> None:
    """One question with one answer is learned by heart."""
    rows = write_rows(tmp_path / "one.jsonl", [{"prompt": "say it:", "completion": " it is #### 1,234"}] * 30)
    out = tmp_path / "run"
    words = command(rows, out, "--metric", "exact-answer", "--epochs", 6, "--lr", "2e-2", "--method", "full")
    words[words.index("--data")] = "--train-file"
    assert main([*words, "--test-file", str(rows)]) == 0
    shares = [row["exact_answer"] for row in metrics(out)]
    assert shares[-1] == 1.0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["metrics"] == ["exact_answer", "loss", "perplexity"] and summary["deciding"] == "exact_answer"


@pytest.mark.parametrize(
    "more, sentence",
    [
        (["--lora", "0"], "--lora 0: the rank must be 1 or more"),
        (
            ["--dynamics", "d"],
            "--dynamics holds the class of each text, and these data are for causal-lm; leave it out",
        ),
        (["--method", "tdds"], "--method tdds reads probabilities, which causal-lm does not have; choose another"),
        (["--metric", "accuracy"], "--metric accuracy is none of this task's; choose loss, perplexity, exact_answer"),
        (["--max-length", "1"], "--max-length 1: a language model learns from two tokens or more; raise it"),
    ],
)
def test_bad_options(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture, more: list[str], sentence: str) -> None:
    assert main([*command(rows, tmp_path / "run"), *more]) == 2
    assert sentence in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_adapters_are_for_language_models(table_file: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["finetune", "--data", str(table_file), "--lora"]) == 2
    assert "--lora is for --task causal-lm, and these data are for another; leave it out" in capsys.readouterr().err


def test_without_peft_one_sentence(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch) -> None:
    from fastprune.app.finetune.lm import model

    find = model.importlib.util.find_spec
    monkeypatch.setattr(model.importlib.util, "find_spec", lambda name: None if name == "peft" else find(name))
    assert main([*command(rows, tmp_path / "run"), "--lora"]) == 2
    assert "--lora needs the peft package, which is not installed: pip install" in capsys.readouterr().err


def test_an_encoder_is_no_language_model(rows: Path, tiny_model: Path, tmp_path: Path, capsys) -> None:
    assert main([*command(rows, tmp_path / "run"), "--model", str(tiny_model)]) == 2
    assert "is BertModel; --task causal-lm takes a causal language model" in capsys.readouterr().err
