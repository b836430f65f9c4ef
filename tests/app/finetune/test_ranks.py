"""``torchrun … fastprune finetune``: one writes and prints, all train, and what one cannot do ends them all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
from helpers import under_torchrun
from helpers.older_trainers import NO_RESUME_ON_CPUS

from fastprune.app.finetune.checkpoint import newest_whole, read_finished

WORKER = Path(__file__).parent / "ranks_worker.py"


def torchrun(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return started([*under_torchrun.command(2), str(WORKER), *map(str, arguments)], cwd)


def started(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = under_torchrun.environment() | {"HF_HUB_OFFLINE": "1"}
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def trained(joint_folder: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Without --out: the first process names the folder, and all have to know it."""
    base = tmp_path_factory.mktemp("ranks")
    command = [
        "finetune", "--data", joint_folder, "--model", tiny_model, "--precision", "fp32", "--lr", "3e-3", "--epochs", 2,
        "--batch-size", 8, "--method", "el2n", "el2n-free", "--dynamics", base / "dynamics",
    ]  # fmt: skip
    done = torchrun(*command, cwd=base)
    assert done.returncode == 0, done.stdout + done.stderr
    return base, done.stdout, done.stderr


def test_one_folder_one_report_one_voice(trained: tuple[Path, str, str]) -> None:
    base, out, err = trained
    (folder,) = (base / "runs").iterdir()
    names = ["classes.json", "config.json", "metrics.jsonl", "model", "scores.parquet", "summary.json"]
    assert set(names) <= set(os.listdir(folder)) and not {"checkpoint", ".lock"} & set(os.listdir(folder))
    assert out.count("run folder:") == 1 and err.count("run folder:") == 1
    assert err.count("1/3 full · seed 0 · full · epoch 1/2") == 1
    assert err.count("label(s) occur only outside") == 2, "said once: of texts, and of words"


def test_every_example_is_counted_once(trained: tuple[Path, str, str]) -> None:
    base, _, _ = trained
    (folder,) = (base / "runs").iterdir()
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(row["run"], row["steps"], row["examples_seen"]) for row in rows if row["epoch"] == 2] == [
        ("full", 10, 160),
        ("el2n 0.5", 8, 128),
        ("el2n-free 0.5", 8, 128),
    ]
    scores = parquet.read_table(folder / "scores.parquet").to_pandas()
    assert scores.groupby(["run", "epoch"])["kept"].sum().to_dict() == {
        ("el2n 0.5", 1): 40, ("el2n-free 0.5", 1): 40, ("el2n-free 0.5", 2): 0,
    }  # fmt: skip
    for run, expected in (("full", [80, 80]), ("el2n-0.5", [80, 40])):
        epochs = sorted((base / "dynamics" / f"{run}-seed-0" / "training_dynamics").iterdir())
        found = [[json.loads(line)["guid"] for line in path.read_text().splitlines()] for path in epochs]
        assert [len(set(guids)) for guids in found] == expected == [len(guids) for guids in found]


def test_what_one_process_cannot_do_is_said_once_and_ends_all(
    joint_folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """Only the first process looks at --out."""
    (tmp_path / "thesis.txt").write_text("precious")
    command = ["finetune", "--data", joint_folder, "--model", tiny_model, "--out", tmp_path / "thesis.txt"]
    statuses, said = under_torchrun.ended(WORKER, 2, *map(str, command), cwd=tmp_path)
    assert min(statuses) > 0, "none had to be killed"
    assert said.count("fastprune: --out") == 1 and "is a file" in said
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def left_by(folder: Path) -> dict[str, object]:
    """What a run leaves but for times and paths."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {
        "files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*")),
        "metrics": [{key: value for key, value in row.items() if not key.endswith("seconds")} for row in rows],
        "scores": parquet.read_table(folder / "scores.parquet").to_pylist(),
        "model": (folder / "model" / "model.safetensors").read_bytes(),
    }


SOAK = "FASTPRUNE_SOAK" in os.environ
FAILURES = ["1:training_step:16", "0:evaluate:2"] if SOAK and not NO_RESUME_ON_CPUS else ["1:training_step:16"]


def test_a_rank_that_fails_ends_all_and_the_run_can_go_on(
    trained: tuple[Path, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the second epoch of the second run, and then, in `make soak`, in the evaluation after it."""
    base, _, _ = trained
    (whole,) = (base / "runs").iterdir()
    command = json.loads((whole / "config.json").read_text())["command"]
    out = base / "failed"
    start = [
        "finetune", "--data", command["data"], "--model", command["model"], "--precision", "fp32", "--lr", "3e-3",
        "--epochs", "2", "--batch-size", "8", "--method", "el2n", "el2n-free", "--dynamics", "other", "--out", str(out),
    ]  # fmt: skip
    resume = ["finetune", "--out", str(out), "--resume"]
    for failure in FAILURES:
        rank, method, _ = failure.split(":")
        monkeypatch.setenv("FASTPRUNE_TEST_FAIL", failure)
        statuses, text = under_torchrun.ended(WORKER, 2, *(resume if out.exists() else start), cwd=base)
        assert statuses == [1, 1], text
        said = [line for line in text.splitlines() if line.startswith("fastprune: ")]
        assert said == [f"fastprune: rank {rank}: ValueError: made up in {method}"], text
        assert text.count("Traceback") == 1 and "--resume and as many processes goes on" in text
        assert not (out / ".lock").exists() and read_finished(out).keys() == {0}
        found = newest_whole(out, 1)
        assert found is not None and found[1]["rows"][-1]["epoch"] == 1
    if NO_RESUME_ON_CPUS:
        pytest.skip("all but the end holds: transformers before 5.18 resumes no processes on CPUs")
    monkeypatch.delenv("FASTPRUNE_TEST_FAIL")
    under_torchrun.run(WORKER, 2, *resume, cwd=base)
    found, wanted = left_by(out), left_by(whole)
    assert [part for part in wanted if found[part] != wanted[part]] == []


@pytest.mark.skipif(not SOAK, reason="takes half a minute; `make soak` does it")
def test_accelerate_launch(joint_folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2"]
    command = [
        "finetune", "--data", joint_folder, "--model", tiny_model, "--epochs", 1, "--batch-size", 8, "--out", "run",
    ]  # fmt: skip
    done = started([*launch, "--main_process_port=0", "-m", "fastprune", *map(str, command)], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("run folder:") == 1
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [(row["run"], row["steps"]) for row in rows] == [("full", 5), ("el2n-free 0.5", 5)]
