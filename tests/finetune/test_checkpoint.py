"""States are read back bit for bit, damaged ones are passed over, and nothing in a file is executed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastprune.errors import UsageError
from fastprune.finetune.checkpoint import CHECKPOINT, load_checkpoint, remove_checkpoint, save_checkpoint
from fastprune.finetune.state_files import read_state, write_state

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


@settings(max_examples=150, deadline=None)
@given(state=STATES)
def test_what_is_read_is_what_was_written(state: object, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("state")
    write_state(folder, state)
    assert same(read_state(folder), state)


def test_arrays_and_tensors_that_share_memory(tmp_path: Path) -> None:
    whole = torch.arange(10.0)
    write_state(tmp_path, {"a": whole, "b": whole[2:5], "c": whole, "array": np.arange(4)[::2]})
    found = read_state(tmp_path)
    assert torch.equal(found["a"], whole) and torch.equal(found["b"], whole[2:5]) and torch.equal(found["c"], whole)
    assert isinstance(found["array"], np.ndarray) and found["array"].tolist() == [0, 2]


@pytest.mark.parametrize("state", [{1.5: 0}, {(1,): 0}, {"x": object()}, {"x": {1, 2}}])
def test_what_a_state_cannot_hold(state: dict, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="state"):
        write_state(tmp_path, state)


def saved(folder: Path, epochs: int) -> None:
    for epoch in range(epochs):
        state = {"fingerprint": "f" * 64, "options": {"lr": 0.1}, "epoch": epoch, "weights": torch.full((50,), epoch)}
        save_checkpoint(folder, state)


def load(folder: Path) -> dict:
    return load_checkpoint(folder, {"lr": 0.1}, "f" * 64)


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    saved(tmp_path, 4)
    assert sorted(path.name for path in (tmp_path / CHECKPOINT).iterdir()) == ["3", "4"]
    assert load(tmp_path)["epoch"] == 3
    remove_checkpoint(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["state.json", "state.safetensors", "manifest.json"])
@pytest.mark.parametrize("damage", ["a flipped bit", "cut off", "gone", "empty"])
def test_a_damaged_checkpoint_is_passed_over(
    name: str, damage: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    saved(tmp_path, 3)
    path = tmp_path / CHECKPOINT / "3" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(
            {"a flipped bit": bytes(content), "cut off": content[: len(content) // 2], "empty": b""}[damage]
        )
    assert load(tmp_path)["epoch"] == 1
    assert "checkpoint/3 is damaged" in capsys.readouterr().err
    (tmp_path / CHECKPOINT / "2" / "manifest.json").unlink()
    with pytest.raises(UsageError, match="--resume: no checkpoint in .* is whole; start again in another folder"):
        load(tmp_path)


def test_a_foreign_state_with_a_right_manifest_is_passed_over(tmp_path: Path) -> None:
    import hashlib

    saved(tmp_path, 2)
    newest = tmp_path / CHECKPOINT / "2"
    (newest / "state.json").write_text('["exec", "import os"]')
    digests = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in newest.glob("state.*")}
    (newest / "manifest.json").write_text(json.dumps({"sha256": digests}))
    assert load(tmp_path)["epoch"] == 0


def test_other_data_and_other_options_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    with pytest.raises(UsageError, match="belongs to another data set"):
        load_checkpoint(tmp_path, {"lr": 0.1}, "e" * 64)
    with pytest.raises(UsageError, match="was made with lr = 0.1, now it is 0.2"):
        load_checkpoint(tmp_path, {"lr": 0.2}, "f" * 64)
    with pytest.raises(UsageError, match="holds no checkpoint"):
        load(tmp_path / "elsewhere")


def test_a_checkpoint_of_an_earlier_version_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"\x80\x02a pickle")
    with pytest.raises(UsageError, match="is of an earlier version"):
        load(tmp_path)
