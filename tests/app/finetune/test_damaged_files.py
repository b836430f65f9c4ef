"""Damaged files that the commands read beside the data: they are read, or refused in one sentence.

FASTPRUNE_FUZZ says how many of each kind; `make soak` tries 500.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from helpers.damage import attempt, cases, damaged, drawing
from helpers.made_up_data import utterances, write_slotgated

from fastprune.app.cli import main
from fastprune.app.data import Source, load
from fastprune.app.dynamics import read_dynamics, write_epoch
from fastprune.app.finetune import session
from fastprune.app.finetune.checkpoint import CHECKPOINT, MANIFEST, newest_whole, read_finished, seal
from fastprune.app.finetune.encoder import load_encoder
from fastprune.app.finetune.finetuned import load_finetuned
from fastprune.app.report import RunFolder

CASES = cases(3)
KEEP = {
    ".csv": "row,index,score\n" + "".join(f"{i},{i},{i / 10}\n" for i in range(10)),
    ".jsonl": "".join(json.dumps({"row": i, "index": i, "score": i / 10}) + "\n" for i in range(10)),
}
CONFIG = """
# options of a run
method: [el2n-free, "orderdp(ratio=0.375)"]
keep-fraction: 0.5
epochs: 3
lr: 3e-4
seed: [0, 1]
precision: fp32
best: false
trainer: [weight_decay=0.1, max_grad_norm=2.0]
"""


def damages(folder: Path, rng: random.Random, *, but: tuple[str, ...] = ()) -> Iterator[Path]:
    """The folder's files, each time one of them damaged; all are as before at the end."""
    whole = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix not in but}
    for _ in range(CASES):
        path = rng.choice(sorted(whole))
        while (content := damaged(whole[path], rng)) == whole[path]:
            pass
        path.write_bytes(content)
        yield path
        path.write_bytes(whole[path])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_slotgated(tmp_path / "data", {"train": utterances(20, 0), "test": utterances(5, 1)})


@pytest.mark.parametrize("suffix", [*KEEP, ".parquet"])
def test_files_of_the_rows_to_keep(suffix: str, data: Path, tmp_path: Path) -> None:
    (tmp_path / "keep").mkdir()
    path = tmp_path / "keep" / f"rows{suffix}"
    if suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.table({"row": list(range(10)), "score": [i / 10 for i in range(10)]}), path)
    else:
        path.write_text(KEEP[suffix])
    source = Source(data=str(data), keep=str(path))
    assert len(load(source).train) == 10
    for _ in damages(path.parent, drawing(f"keep{suffix}")):
        attempt(lambda: load(source))


def test_files_of_options(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """As everything but the training does with them."""
    monkeypatch.setattr(session, "finetune", lambda *args, **kwargs: None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "options").mkdir()
    path = tmp_path / "options" / "run.yaml"
    path.write_text(CONFIG)
    command = ["finetune", "--data", str(data), "--config", str(path)]
    assert main(command) == 0
    for _ in damages(path.parent, drawing("config")):
        assert_sentence_or_success(command, capsys)


def test_run_folders_to_go_on_with(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Their config.json says with which options."""

    def begin(*args: object, command: dict, **kwargs: object) -> None:
        RunFolder.create(out).write_config({"command": command})

    monkeypatch.chdir(tmp_path)
    out = tmp_path / "run"
    monkeypatch.setattr(session, "finetune", begin)
    assert main(["finetune", "--data", str(data), "--lr", "1e-3", "--seed", "0", "1", "--out", str(out)]) == 0
    monkeypatch.setattr(session, "finetune", lambda *args, **kwargs: None)
    command = ["finetune", "--out", str(out), "--resume"]
    assert main(command) == 0
    for _ in damages(out, drawing("resume")):
        assert_sentence_or_success(command, capsys)


def assert_sentence_or_success(command: list[str], capsys: pytest.CaptureFixture) -> None:
    capsys.readouterr()
    try:
        status = main(command)
    except SystemExit as error:
        status = int(error.code or 0)
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note: ")]
    assert (status, len(said)) in ((0, 0), (2, 1)), said
    assert not said or (said[0].startswith("fastprune: ") and len(said[0]) < 2_000)


def _model(tiny_model: Path, folder: Path, head: str) -> Path:
    import transformers

    shutil.copytree(tiny_model, folder)
    if head:
        with torch.random.fork_rng():
            config = transformers.AutoConfig.from_pretrained(tiny_model)
            getattr(transformers, f"BertFor{head}")(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("head", ["", "SequenceClassification", "TokenClassification"])
def test_models(head: str, tiny_model: Path, tmp_path: Path) -> None:
    """Weights have tests of their own; here it is all other files of a model."""
    folder = _model(tiny_model, tmp_path / "model", head)
    read: Callable[[str], object] = load_finetuned if head else load_encoder
    read(str(folder))
    for _ in damages(folder, drawing(f"model {head}"), but=(".safetensors",)):
        attempt(lambda: read(str(folder)))


def test_training_dynamics(tmp_path: Path) -> None:
    for epoch in range(2):
        write_epoch(tmp_path, epoch, torch.arange(6), torch.ones(6, 3) / 3, torch.arange(6) % 3)
    read_dynamics(tmp_path)
    for _ in damages(tmp_path, drawing("dynamics")):
        attempt(lambda: read_dynamics(tmp_path))


def test_checkpoints_are_passed_over(tmp_path: Path, capsys) -> None:
    """Also those whose manifest goes with the damage."""
    finished, going = tmp_path / CHECKPOINT / "finished-0", tmp_path / CHECKPOINT / "run-1" / "checkpoint-7"
    state = {"spec": {"name": "full"}, "rows": [{"loss": 0.5, "lr": float("nan")}], "map": torch.arange(5)}
    for folder in (finished, going):
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text('{"epoch": 1.0}')
        seal(folder, state)
    assert read_finished(tmp_path).keys() == {0} and newest_whole(tmp_path, 1) is not None
    for path in damages(tmp_path, drawing("checkpoints")):
        read_finished(tmp_path)
        newest_whole(tmp_path, 1)
        if path.name == MANIFEST:
            continue
        assert read_finished(tmp_path).keys() == ({0} if path.parent == going else set())
        assert (newest_whole(tmp_path, 1) is None) == (path.parent == going)
        whole = (path.parent / MANIFEST).read_text()
        digests = json.loads(whole)
        digests["sha256"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        (path.parent / MANIFEST).write_text(json.dumps(digests))
        read_finished(tmp_path)
        newest_whole(tmp_path, 1)
        (path.parent / MANIFEST).write_text(whole)
