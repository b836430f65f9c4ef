"""Keeps the state of a run in two files that hold no program: tensors in safetensors, all else in JSON.

A text, a truth value, a whole or a finite number and None become themselves.  All else becomes a list that begins with
its kind: ["dict", [[key, value], …]], ["list", […]], ["tuple", […]], ["tensor", name], ["array", name], ["float",
"nan"].  So no value can be taken for another, and numbers come back bit for bit.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

STATE, TENSORS = "state.json", "state.safetensors"


def write_state_files(folder: Path, state: Any) -> None:
    """Write both files.

    Args:
        folder: gets them.
        state: dicts with texts or whole numbers as keys, lists, tuples, tensors, NumPy arrays and plain values.

    Raises:
        TypeError: it holds something else.
    """
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    plain = _plain(state, tensors)
    save_file(tensors, folder / TENSORS)
    (folder / STATE).write_text(json.dumps(plain), encoding="utf-8")


def read_state_files(folder: Path) -> Any:
    """Return what `write_state_files` wrote, on the CPU.

    Raises:
        Exception: the files are damaged.  Exceptions are of many kinds.  Nothing in the files is executed.
    """
    from safetensors.torch import load_file

    return _value(json.loads((folder / STATE).read_text(encoding="utf-8")), load_file(folder / TENSORS))


def _plain(value: Any, tensors: dict[str, Tensor]) -> Any:
    if value is None or isinstance(value, (bool, str)) or type(value) is int:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else ["float", str(value)]
    if isinstance(value, Mapping):
        for key in value:
            if type(key) not in (str, int):
                raise TypeError(f"a key of a state must be a text or a whole number, got {key!r}")
        return ["dict", [[key, _plain(item, tensors)] for key, item in value.items()]]
    if isinstance(value, (list, tuple)):
        return ["tuple" if isinstance(value, tuple) else "list", [_plain(item, tensors) for item in value]]
    if isinstance(value, Tensor):
        return ["tensor", _put(value, tensors)]
    if isinstance(value, np.ndarray):
        return ["array", _put(torch.from_numpy(np.ascontiguousarray(value)), tensors)]
    raise TypeError(f"a state cannot hold a {type(value).__name__}: {value!r}")


def _put(tensor: Tensor, tensors: dict[str, Tensor]) -> str:
    name = str(len(tensors))
    # A copy of its own, because the file does not take tensors that share memory.
    tensors[name] = tensor.detach().to("cpu", copy=True).contiguous()
    return name


def _value(plain: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(plain, list):
        return plain
    kind, content = plain
    if kind == "dict":
        return {key: _value(item, tensors) for key, item in content}
    if kind in ("list", "tuple"):
        items = [_value(item, tensors) for item in content]
        return items if kind == "list" else tuple(items)
    if kind == "tensor":
        return tensors[content]
    if kind == "array":
        return tensors[content].numpy()
    if kind == "float":
        return float(content)
    raise ValueError(f"unknown kind {kind!r}")
