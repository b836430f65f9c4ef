"""``torchrun … fastprune finetune``: one writes and prints, all train, and what one cannot do ends them all."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
import under_torchrun

WORKER = Path(__file__).parent / "ranks_worker.py"


@pytest.fixture(scope="module")
def trained(joint_folder: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Without --out: the first process names the folder, and all have to know it."""
    base = tmp_path_factory.mktemp("ranks")
    command = [
        "finetune", "--data", joint_folder, "--model", tiny_model, "--precision", "fp32", "--lr", "3e-3", "--epochs", 2,
        "--batch-size", 8, "--method", "el2n", "el2n-free", "--dynamics", base / "dynamics",
    ]  # fmt: skip
    done = subprocess.run(
        [*under_torchrun.command(2), str(WORKER), *map(str, command)],
        env=under_torchrun.environment() | {"HF_HUB_OFFLINE": "1"},
        cwd=base,
        capture_output=True,
        text=True,
        timeout=300,
    )
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
