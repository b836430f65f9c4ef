"""A tiny data set in the place of ATIS, and a tiny encoder in the place of MiniLM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.made_up_data import utterances, write_slotgated


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory) -> Path:
    """A folder of data sets that holds "atis": 90 training utterances, of which 9 are held out, and 30 of test."""
    folder = tmp_path_factory.mktemp("data")
    write_slotgated(folder / "atis", {"train": utterances(90, seed=1), "test": utterances(30, seed=2)})
    return folder


@pytest.fixture(scope="session")
def encoder(tiny_model):
    """(encoder, tokenizer) of the tiny model."""
    from benchmarks.evidence.encoder import read_encoder

    return read_encoder(str(tiny_model))


@pytest.fixture(scope="session")
def prepared(data_folder, encoder):
    """The tiny data set as token tables."""
    from benchmarks.evidence.data import load
    from benchmarks.evidence.tokens import prepare

    return prepare(load("atis", data_folder), encoder[1], 32)


@pytest.fixture
def own_random_state() -> Iterator[None]:
    """The global random state is put back: a run sets it."""
    with torch.random.fork_rng():
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """This process uses one thread, as workers do: sums in another order give other bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
