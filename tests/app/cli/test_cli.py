"""The command line as users meet it: a subprocess, good input and bad."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
import torch
from helpers.made_up_data import utterances, write_slotgated

from fastprune.app.cli import main

RUN_FILES = {"config.json", "metrics.jsonl", "scores.parquet", "report.png", "report.md", "summary.json", "model"} | {
    "texts.json",
    "classes.json",
    "report.html",
}


def fastprune(*arguments, cwd=None) -> subprocess.CompletedProcess:
    """A command in this process, which has imported everything; `test_the_version` starts one of its own."""
    said, out = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(said):
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("COLUMNS", "120")
        if cwd is not None:
            patch.chdir(cwd)
        try:
            status = main([str(a) for a in arguments])
        except SystemExit as error:
            status = error.code
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), said.getvalue())


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """PyTorch sums in another order with two, and runs are compared bit by bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def finetune(data, model, out, *more):
    return fastprune(
        "finetune",
        "--data",
        data,
        "--model",
        model,
        "--out",
        out,
        "--precision",
        "fp32",
        "--lr",
        "3e-3",
        *more,
    )


def metrics(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def compared(tmp_path_factory, joint_folder, tiny_model):
    out = tmp_path_factory.mktemp("runs") / "compare"
    result = finetune(
        joint_folder, tiny_model, out, "--compare", "--epochs", 4, "--cycle-epochs", 2, "--method", "el2n", "el2n-free",
        "--seed", 0, 1, "--batch-size", 8,
    )  # fmt: skip
    return out, result


def test_compare_reports_every_run(compared):
    out, result = compared
    assert result.returncode == 0, result.stderr
    assert set(os.listdir(out)) == RUN_FILES, "no temporary file, no checkpoint left"
    summary = json.loads((out / "summary.json").read_text())
    rows = {row["run"]: row for row in summary["rows"]}
    assert list(rows) == ["full", "short full 0.5", "random 0.5", "el2n 0.5", "el2n-free 0.5"]
    for name, row in rows.items():
        assert name in result.stdout
        assert row["n_seeds"] == 2
        assert 0 <= row["exact_match"] <= row["intent_accuracy"] <= 1
        parts = row["train_seconds"] + row["score_seconds"] + row["select_seconds"]
        assert row["total_seconds"] == pytest.approx(parts)
        assert (row["score_seconds"] > 0) == (name == "el2n 0.5")
    assert rows["full"]["intent_accuracy"] > 0.9, "two intents of fixed words are learned"
    assert rows["full"]["examples_seen"] == 4 * 80
    budget = 80 + 3 * 40
    assert rows["short full 0.5"]["examples_seen"] == pytest.approx(budget, abs=8)
    assert {rows[r]["examples_seen"] for r in rows if r.endswith(" 0.5") and "short" not in r} == {budget}


def test_the_learning_rate_ends_at_zero_in_every_run(compared):
    last = {(row["run"], row["seed"]): row for row in metrics(compared[0])}
    assert len(last) == 10
    assert all(row["lr"] == 0.0 for row in last.values())


def test_scores_hold_every_cycle_of_the_scored_methods(compared):
    table = parquet.read_table(compared[0] / "scores.parquet").to_pandas()
    assert set(table["run"]) == {"el2n 0.5", "el2n-free 0.5"}
    # A pass before each cycle, of 2 epochs; the training steps' own scores also at the end.
    assert {run: set(part["epoch"]) for run, part in table.groupby("run")} == {
        "el2n 0.5": {1, 3},
        "el2n-free 0.5": {1, 3, 4},
    }
    last = table[table["epoch"] == 4]
    assert len(last) == 2 * 80 and not last["kept"].any()
    cycles = table[table["epoch"] < 4].groupby(["run", "seed", "epoch"])
    assert set(cycles["kept"].sum()) == {40}
    assert set(cycles["index"].count()) == {80}
    for _, cycle in cycles:
        assert cycle.loc[cycle["kept"], "score"].min() >= cycle.loc[~cycle["kept"], "score"].max()


def test_labels_only_in_test_are_counted_once_and_score_as_errors(compared):
    out, result = compared
    assert result.stderr.count("label(s) occur only outside") == 2  # of texts, and of words
    assert "Weather (1)" in result.stderr and "B-day (1)" in result.stderr
    assert max(row["intent_accuracy"] for row in metrics(out)) <= 30 / 31


def test_progress_is_said_even_without_a_terminal(compared):
    stderr = compared[1].stderr
    assert "10/10 el2n-free 0.5 · seed 1 · pruned · epoch 4/4 · kept 50%" in stderr
    assert "ex/s" in stderr


def test_the_same_command_gives_the_same_numbers(compared, joint_folder, tiny_model, tmp_path):
    finetune(
        joint_folder, tiny_model, tmp_path / "again", "--compare", "--epochs", 4, "--cycle-epochs", 2,
        "--method", "el2n", "el2n-free", "--seed", 1, "--batch-size", 8,
    )  # fmt: skip
    keys = ("run", "epoch", "train_loss", "exact_match", "slot_f1", "examples_seen")
    first = [[row[k] for k in keys] for row in metrics(compared[0]) if row["seed"] == 1]
    assert first == [[row[k] for k in keys] for row in metrics(tmp_path / "again")]


def test_report_remakes_the_picture(compared, picture):
    out, _ = compared
    before = (out / "report.png").stat().st_mtime_ns
    result = fastprune("report", out)
    assert result.returncode == 0 and "el2n-free 0.5" in result.stdout
    assert (out / "report.png").stat().st_mtime_ns > before
    assert (out / "report.png").stat().st_size > 10_000


def test_a_table_of_plain_classification(table_file, tiny_model, tmp_path):
    out = tmp_path / "run"
    with_columns = ("--text-column", "text", "--label-column", "label")
    result = finetune(
        table_file, tiny_model, out, "--epochs", 3, "--keep-fraction", 0.5, "--batch-size", 8, *with_columns
    )
    assert result.returncode == 0, result.stderr
    rows = json.loads((out / "summary.json").read_text())["rows"]
    assert [row["run"] for row in rows] == ["full", "auto 0.5"], "auto is the default"
    assert all("slot_f1" not in row or row["slot_f1"] is None for row in rows)


def test_an_interrupted_run_says_how_to_go_on_and_takes_nothing_else(
    joint_folder, tiny_model, tmp_path, monkeypatch, capsys
):
    """test_killed.py shows that a resumed run gives the same bits."""
    from fastprune.app.finetune import session

    command = [
        "finetune", "--data", joint_folder.name, "--model", os.path.relpath(tiny_model, joint_folder.parent),
        "--epochs", "2", "--batch-size", "8", "--precision", "fp32", "--out", str(tmp_path / "run"),
    ]  # fmt: skip

    def interrupt(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.chdir(joint_folder.parent)
        patch.setattr(session, "finish", interrupt)
        assert main(command) == 130
    assert "--resume goes on after the last whole epoch" in capsys.readouterr().err
    assert set(os.listdir(tmp_path / "run")) == {"config.json", "metrics.jsonl", "checkpoint", "model", "classes.json"}
    resume = ["finetune", "--out", str(tmp_path / "run"), "--resume"]
    for changed, named in (
        (["--data", str(tmp_path)], "--data"),
        (["--lr", "0.5"], "was made with --lr 0.0003, now it is 0.5; leave --lr out"),
        (["--keep-fraction", "linear:0.5:0.5"], "--keep-fraction 0.5, now it is linear:0.5:0.5"),
        (["--dynamics", str(tmp_path / "d")], "--dynamics left out, now it is"),
        (["--best"], "--best left out"),
        (["--trainer", "weight_decay=0.1"], "--trainer left out"),
        (["--extend"], "do not go together"),
    ):
        assert main([*resume, *changed]) == 2
        assert named in capsys.readouterr().err, named
    assert main([*resume[:-1], "--extend", "--seed", "3"]) == 2
    assert "has not ended; --resume it first" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "run")]) == 0, "a run that has not ended can be looked at"
    seq_in = joint_folder / "train" / "seq.in"
    texts = seq_in.read_text()
    seq_in.write_text(texts.replace("book", "play", 1))
    try:
        assert main(resume) == 2
        assert "belongs to another data set" in capsys.readouterr().err
    finally:
        seq_in.write_text(texts)
    assert main([*resume, "--lr", "3e-4", "--epochs", "2"]) == 0, "options that agree may be said again"
    assert set(os.listdir(tmp_path / "run")) == RUN_FILES
    assert main(resume) == 2
    assert "has ended" in capsys.readouterr().err
    assert main(["finetune", "--out", str(tmp_path / "none"), "--resume"]) == 2
    assert "leave --resume out to start" in capsys.readouterr().err


def test_a_finished_comparison_is_extended(compared, capsys):
    """Only what is new is run, and what was there stays as it was."""
    out, _ = compared
    before, scores = metrics(out), parquet.read_table(out / "scores.parquet").to_pylist()
    extend = ["finetune", "--out", str(out), "--extend"]
    assert main([*extend, "--seed", "0", "1"]) == 2
    assert "has all of these runs" in capsys.readouterr().err
    assert main([*extend, "--seed", "2", "--batch-size", "4"]) == 2
    assert "--batch-size 8, now it is 4" in capsys.readouterr().err
    assert metrics(out) == before
    assert main([*extend, "--method", "rs2"]) == 0
    said = capsys.readouterr()
    assert "rs2 0.5" in said.out and said.err.count(" epoch 4/4 ") == 2, "two runs, one of each seed"
    after = metrics(out)
    assert [row for row in after if row["run"] != "rs2 0.5"] == before
    assert [(r["seed"], r["epoch"]) for r in after if r["run"] == "rs2 0.5"] == [
        (s, e) for s in (0, 1) for e in range(1, 5)
    ]
    assert [row for row in parquet.read_table(out / "scores.parquet").to_pylist() if row["run"] != "rs2 0.5"] == scores
    summary = json.loads((out / "summary.json").read_text())
    assert [row["n_seeds"] for row in summary["rows"]] == [2] * 6
    assert summary["model_run"] == {"run": "rs2 0.5", "seed": 1, "epoch": 4}
    assert set(os.listdir(out)) == RUN_FILES


def test_a_comparison_keeps_the_schedule_that_it_was_begun_with(compared, tmp_path, capsys):
    """What `--compare` took when the folder was made counts, and not what it takes today."""
    out = shutil.copytree(compared[0], tmp_path / "run")
    config = json.loads((out / "config.json").read_text())
    assert config["cycle_epochs"] == config["command"]["cycle_epochs"] == 2
    config["command"]["cycle_epochs"] = None
    (out / "config.json").write_text(json.dumps(config))
    assert main(["finetune", "--out", str(out), "--extend", "--seed", "0"]) == 2
    assert "has all of these runs" in capsys.readouterr().err, "nothing else differs"


def test_options_come_from_a_file_and_the_command_line_goes_first(joint_folder, tiny_model, tmp_path, capsys):
    settings = f"""
data: {joint_folder}
model: {tiny_model}
epochs: 3
lr: 3e-3
batch-size: 8
precision: fp32
method: [random]
keep_fraction: 0.5
compare: false
trainer: [weight_decay=0.2]
"""
    (tmp_path / "run.yaml").write_text(settings)
    command = ["finetune", "--config", str(tmp_path / "run.yaml"), "--out", str(tmp_path / "run")]
    assert main([*command, "--warmup-epochs", "1", "--epochs", "1"]) == 0
    assert "nothing is pruned in run 'random 0.5', whose warm-up covers all epochs" in capsys.readouterr().err
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["epochs"], config["lr"], config["trainer"]) == (1, 0.003, {"weight_decay": 0.2})
    assert config["command"]["method"] == ["random"] and "compare" not in config["command"]
    assert main(["finetune", "--out", str(tmp_path / "run"), "--extend", "--epochs", "2"]) == 0
    found = [(row["run"], row["epoch"]) for row in metrics(tmp_path / "run")]
    assert found == [(run, epoch) for run in ("full", "random 0.5") for epoch in (1, 2)], "all runs are made again"
    capsys.readouterr()
    for text, named in (
        ("epochs: many", "--epochs: invalid int value"),
        ("speed: 11", "there is no option 'speed'"),
        ("compare: 1", "compare must be true or false"),
        ("lr: [1, 2]", "lr takes one value"),
        ("- epochs", "must hold options with their values"),
        ("epochs: [", "cannot be read"),
        ("!!python/object/apply:os.system ['touch executed']", "cannot be read"),
    ):
        (tmp_path / "run.yaml").write_text(text)
        try:
            assert main(command) == 2
        except SystemExit as error:
            assert error.code == 2
        said = capsys.readouterr().err
        assert named in said and "Traceback" not in said, text
    assert not (tmp_path / "executed").exists()


def test_the_version():
    command = [sys.executable, "-m", "fastprune", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0 and re.fullmatch(r"fastprune \d+\.\d+\.\d+\n", result.stdout)


def test_training_dynamics_of_an_earlier_run_are_not_mixed_with_new_ones(joint_folder, tiny_model, tmp_path):
    from fastprune.app.dynamics import count_epochs

    def run(out, *more):
        return main(
            [
                "finetune",
                "--data",
                str(joint_folder),
                "--model",
                str(tiny_model),
                "--epochs",
                "2",
                "--precision",
                "fp32",
            ]
            + ["--out", str(tmp_path / out), "--dynamics", str(tmp_path / "d"), *more]
        )

    assert run("first") == 0
    assert sorted(os.listdir(tmp_path / "d")) == ["auto-0.5-seed-0", "full-seed-0"]
    assert count_epochs(tmp_path / "d" / "full-seed-0") == 2
    lines = [
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in sorted((tmp_path / "d" / "auto-0.5-seed-0" / "training_dynamics").iterdir())
    ]
    assert sorted(line["guid"] for line in lines[0]) == list(range(80)) and len(lines[1]) == 40
    kept = parquet.read_table(tmp_path / "first" / "scores.parquet").to_pandas().query("kept")["index"]
    assert sorted(line["guid"] for line in lines[1]) == sorted(kept)
    recorded = parquet.read_table(tmp_path / "first" / "data_map.parquet").to_pandas()
    assert recorded.groupby("run").size().to_dict() == {"auto 0.5": 80, "full": 80}
    assert run("second") == 2 and not (tmp_path / "second").exists()
    assert run("second", "--method", "random") == 2, "the run on all data would be written there, too"


BAD = {
    "missing folder": (["--data", "no/such/folder"], "no/such/folder"),
    "keep_fraction": (["--keep-fraction", "1.5"], "keep_fraction"),
    "keep_fraction zero": (["--keep-fraction", "0"], "keep_fraction"),
    "method": (["--method", "magic"], "magic"),
    "epochs": (["--epochs", "0"], "--epochs"),
    "batch size": (["--batch-size", "0"], "--batch-size"),
    "lr": (["--lr", "-1"], "--lr"),
    "smoothing": (["--smoothing", "mean:0"], "--smoothing"),
    "offset": (["--offset", "1.5"], "offset"),
    "offset unread": (["--offset", "0.1"], "--offset 0.1 is not read by --method auto"),
    "smoothing unread": (["--smoothing", "ema", "--method", "auto", "rs2"], "is not read by --method auto rs2"),
    "model": (["--model", "no/such/model"], "no/such/model"),
    "unknown option": (["--keep", "0.5", "--speed", "11"], "--speed"),
    "not a number": (["--epochs", "many"], "--epochs"),
    "lr infinite": (["--lr", "inf"], "--lr"),
    "resume without out": (["--resume"], "--resume needs --out"),
    "best without validation": (["--best"], "--best chooses the epoch by a validation split"),
    "trainer field": (["--trainer", "speed=11"], "--trainer speed: TrainingArguments of this version"),
    "trainer refused": (["--trainer", "learning_rate=1"], "--trainer learning_rate cannot be set: use --lr"),
    "trainer value": (["--trainer", "weight_decay=much"], "--trainer: argument --weight_decay"),
    "trainer form": (["--trainer", "weight_decay"], "is not of the form KEY=VALUE"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_options_end_with_one_sentence(case, joint_folder, tiny_model, tmp_path):
    bad, named = BAD[case]
    arguments = ["--data", joint_folder, "--model", tiny_model, *bad]
    if case != "resume without out":
        arguments += ["--out", tmp_path / "run"]
    result = fastprune("finetune", *arguments, cwd=tmp_path)
    assert_one_sentence(result, named)
    assert os.listdir(tmp_path) == [], "no file is left"


def test_bad_data_ends_with_one_sentence(joint_folder, table_file, tiny_model, tmp_path):
    lengths = write_slotgated(tmp_path / "lengths", {"train": utterances(5, 0), "test": utterances(5, 1)})
    (lengths / "train" / "label").write_text("BookFlight\n")
    empty = write_slotgated(tmp_path / "empty", {"train": [], "test": []})
    cases = [
        ((lengths,), "label"),
        ((empty,), "empty"),
        ((table_file, "--text-column", "utterance"), "utterance"),
    ]
    for (data, *more), named in cases:
        result = finetune(data, tiny_model, tmp_path / "run", *more)
        assert_one_sentence(result, named)
        assert not (tmp_path / "run").exists()


def test_a_folder_with_other_files_or_another_run_is_left_alone(compared, joint_folder, tiny_model, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    assert_one_sentence(finetune(joint_folder, tiny_model, tmp_path), "not empty")
    assert os.listdir(tmp_path) == ["thesis.txt"]
    before = (compared[0] / "metrics.jsonl").read_text()
    assert_one_sentence(finetune(joint_folder, tiny_model, compared[0]), "holds a run already")
    assert (compared[0] / "metrics.jsonl").read_text() == before


def test_a_diverging_run_is_named_and_can_be_repeated_in_its_folder(joint_folder, tiny_model, tmp_path):
    diverged = finetune(joint_folder, tiny_model, tmp_path / "run", "--lr", "1e30", "--epochs", 2)
    assert diverged.returncode == 2 and "Traceback" not in diverged.stderr
    assert "run 'full', seed 0, diverged in epoch 1" in diverged.stderr.splitlines()[-1]
    assert set(os.listdir(tmp_path / "run")) <= {"config.json", "checkpoint"}
    assert finetune(joint_folder, tiny_model, tmp_path / "run", "--epochs", 1).returncode == 0


def test_folders_that_cannot_be_and_checkpoints_that_are_none(joint_folder, tiny_model, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    assert_one_sentence(finetune(joint_folder, tiny_model, tmp_path / "thesis.txt" / "run"), "thesis.txt")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.pt").write_text("not a checkpoint")
    assert_one_sentence(finetune(joint_folder, tiny_model, tmp_path / "run", "--resume"), "is no run folder")
    (tmp_path / "run" / "config.json").write_text('{"fastprune_run": 1}')
    for option in ("--resume", "--extend"):
        found = finetune(joint_folder, tiny_model, tmp_path / "run", option)
        assert_one_sentence(found, "of an earlier version")


def test_long_texts_are_cut_and_counted(joint_folder, tiny_model, tmp_path):
    result = finetune(joint_folder, tiny_model, tmp_path / "run", "--epochs", 1, "--max-length", 6)
    assert result.returncode == 0, result.stderr
    assert "longer than 6 tokens and were cut" in result.stderr


def test_methods_and_info():
    listed = fastprune("methods")
    assert listed.returncode == 0
    assert {line.split()[0] for line in listed.stdout.splitlines()} >= {
        "el2n", "el2n-free", "el2n-static", "loss", "random", "full",
    }  # fmt: skip
    assert "arXiv 2306.03208" in fastprune("methods", "el2n").stdout
    unknown = fastprune("methods", "magic")
    assert_one_sentence(unknown, "'magic' is unknown")
    assert "torch" in fastprune("info").stdout


def test_cards_fit_80_columns_and_lose_no_word(capsys):
    from fastprune.methods import METHOD_CARDS

    assert main(["methods"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert max(map(len, listed)) <= 80
    assert [line.split()[0] for line in listed if not line.startswith(" ")] == list(METHOD_CARDS)
    for name, card in METHOD_CARDS.items():
        assert main(["methods", name]) == 0
        shown = capsys.readouterr().out
        assert shown.split() == card.split()
        lines = shown.splitlines()
        assert max(map(len, lines)) <= 80, name
        fields = [line.split(":")[0] for line in lines if re.match(r"[A-Z][\w ]*: ", line)]
        assert {"Rule", "Reads", "Cost", "Memory"} <= set(fields), name


def assert_one_sentence(result, named):
    assert result.returncode == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if not line.startswith(("note: ", "run folder: "))]
    assert len(lines) == 1 and lines[0].startswith("fastprune: "), result.stderr
    assert named in lines[0]
    assert "Traceback" not in result.stderr
