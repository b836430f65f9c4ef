"""States are read back bit for bit, damaged ones are passed over, and nothing in a file is executed."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastprune.app.finetune.checkpoint import (
    CHECKPOINT,
    has_checkpoint,
    newest_whole,
    read_finished,
    remove_checkpoint,
    run_folder,
    save,
    write_finished,
)
from fastprune.app.finetune.state_files import read_state_files, write_state_files
from fastprune.errors import UsageError

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
TENSORS = st.sampled_from(
    [
        torch.arange(6).reshape(2, 3).T,
        torch.tensor(1.5, dtype=torch.bfloat16),
        torch.zeros(0, 3, dtype=torch.float64),
        torch.tensor([math.nan, math.inf, -0.0]),
        torch.tensor([True, False]),
        torch.arange(10, dtype=torch.uint8)[::3],
    ]
)
STATES = st.recursive(
    PLAIN | TENSORS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        as_bytes = [x.contiguous().reshape(-1).view(torch.uint8) if x.numel() else x for x in (a, b)]
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*as_bytes)
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and type(a) is type(b):
        return len(a) == len(b) and all(map(same, a, b))  # type: ignore[arg-type]
    if isinstance(a, float) and isinstance(b, float):
        return a.hex() == b.hex() or (math.isnan(a) and math.isnan(b))
    return type(a) is type(b) and a == b


@settings(max_examples=int(os.environ.get("FASTPRUNE_FUZZ", "60")), deadline=None)
@given(state=STATES)
def test_what_is_read_is_what_was_written(state: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("state")
    write_state_files(folder, state)
    assert same(read_state_files(folder), state)


def test_arrays_and_tensors_that_share_memory(tmp_path: Path) -> None:
    whole = torch.arange(10.0)
    write_state_files(tmp_path, {"a": whole, "b": whole[2:5], "c": whole, "array": np.arange(4)[::2]})
    found = read_state_files(tmp_path)
    assert torch.equal(found["a"], whole) and torch.equal(found["b"], whole[2:5]) and torch.equal(found["c"], whole)
    assert isinstance(found["array"], np.ndarray) and found["array"].tolist() == [0, 2]


@pytest.mark.parametrize("state", [{1.5: 0}, {(1,): 0}, {"x": object()}, {"x": {1, 2}}])
def test_what_a_state_cannot_hold(state: dict, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="state"):
        write_state_files(tmp_path, state)


def saved(folder: Path, epochs: int) -> None:
    """Checkpoints of run 3 as the Trainer leaves them, with our state beside its files."""
    for epoch in range(epochs):
        path = run_folder(folder, 3) / f"checkpoint-{epoch + 9}"
        path.mkdir(parents=True)
        (path / "optimizer.pt").write_bytes(bytes(1000))
        save(path, {"spec": {}, "rows": [], "epoch": epoch, "weights": torch.full((50,), epoch)})


def newest(folder: Path) -> int | None:
    found = newest_whole(folder, 3)
    assert found is None or found[0].name == f"checkpoint-{found[1]['epoch'] + 9}"
    return None if found is None else found[1]["epoch"]


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    saved(tmp_path, 4)
    assert sorted(path.name for path in run_folder(tmp_path, 3).iterdir()) == ["checkpoint-11", "checkpoint-12"]
    assert newest(tmp_path) == 3 and newest_whole(tmp_path, 0) is None and has_checkpoint(tmp_path)
    remove_checkpoint(tmp_path)
    assert not list(tmp_path.iterdir()) and not has_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["state.json", "state.safetensors", "manifest.json", "optimizer.pt"])
@pytest.mark.parametrize("damage", ["a flipped bit", "cut off", "gone", "empty"])
def test_a_damaged_checkpoint_is_passed_over(
    name: str, damage: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    saved(tmp_path, 3)
    path = run_folder(tmp_path, 3) / "checkpoint-11" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(
            {"a flipped bit": bytes(content), "cut off": content[: len(content) // 2], "empty": b""}[damage]
        )
    assert newest(tmp_path) == 1
    whole = "not complete" if (name, damage) == ("manifest.json", "gone") else "damaged"
    assert f"run-3/checkpoint-11 is {whole}" in capsys.readouterr().err
    (run_folder(tmp_path, 3) / "checkpoint-10" / "manifest.json").unlink()
    assert newest(tmp_path) is None, "the run starts again"
    assert capsys.readouterr().err.count("it is passed over") == 2


def test_a_file_that_the_manifest_does_not_know_is_damage(tmp_path: Path) -> None:
    saved(tmp_path, 2)
    (run_folder(tmp_path, 3) / "checkpoint-10" / "scheduler.pt").write_bytes(b"put there by somebody else")
    assert newest(tmp_path) == 0


def test_a_foreign_state_with_a_right_manifest_is_passed_over(tmp_path: Path) -> None:
    import hashlib

    saved(tmp_path, 2)
    folder = run_folder(tmp_path, 3) / "checkpoint-10"
    (folder / "state.json").write_text('["exec", "import os"]')
    files = [path for path in folder.iterdir() if path.name != "manifest.json"]
    digests = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    (folder / "manifest.json").write_text(json.dumps({"sha256": digests}))
    assert newest(tmp_path) == 0


def test_results_of_finished_runs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    saved(tmp_path, 1)
    for number in (0, 3, 11):
        write_finished(tmp_path, number, {"spec": {}, "rows": [{"loss": math.nan, "number": number}]})
    assert not run_folder(tmp_path, 3).exists(), "its checkpoints are no longer needed"
    found = read_finished(tmp_path)
    assert sorted(found) == [0, 3, 11] and found[11]["rows"][0]["number"] == 11
    (tmp_path / CHECKPOINT / "finished-3" / "state.json").write_text("{}")
    assert sorted(read_finished(tmp_path)) == [0, 11]
    assert "finished-3 is damaged" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["checkpoint.pt", "checkpoint/7/state.json"])
def test_a_checkpoint_of_an_earlier_version_is_refused_unread(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"\x80\x02a pickle")
    with pytest.raises(UsageError, match="are of an earlier version"):
        has_checkpoint(tmp_path)
