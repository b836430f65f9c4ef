"""The global random state of a process: how a checkpoint saves it, and how a resumed run sets it once."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, RandomSampler

from fastprune.platform.collectives import gather_objects

RandomState = dict[str, Any]


def random_state(device: torch.device) -> RandomState:
    """The state of PyTorch (also on ``device``), NumPy and Python, in types that a checkpoint holds."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, words, spare = random.getstate()
    on_device = None
    if device.type != "cpu":
        on_device = torch.get_device_module(device).get_rng_state(device)
    return {
        "torch": torch.get_rng_state(),
        "device": on_device,
        "numpy": (str(kind), torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, gauss),
        "python": (version, torch.tensor(words), spare),
    }


def random_states(device: torch.device) -> list[RandomState]:
    """The random states of all processes, by rank.  A collective call."""
    return gather_objects(random_state(device))


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Set a state that ``random_state(device)`` returned."""
    torch.set_rng_state(state["torch"].cpu())
    if state["device"] is not None and device.type != "cpu":
        torch.get_device_module(device).set_rng_state(state["device"].cpu(), device)
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), *rest))
    version, words, spare = state["python"]
    random.setstate((version, tuple(words.tolist()), spare))


def draw_seeds(count: int) -> None:
    """Make the draws that ``count`` iterators of data loaders make when they begin."""
    for _ in range(count):
        torch.empty((), dtype=torch.int64).random_()


def seeds_of(loaders: Iterable[Any]) -> int:
    """How many seeds these loaders draw from the global generator if each is iterated once."""
    count = 0
    for loader in loaders:
        if not isinstance(loader, DataLoader):
            continue
        goes_on = loader.persistent_workers and loader._iterator is not None
        count += loader.generator is None and not goes_on
        sampler: Any = loader.sampler
        count += type(sampler) is RandomSampler and sampler.generator is None
    return count
