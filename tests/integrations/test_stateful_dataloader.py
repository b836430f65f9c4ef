"""torchdata's StatefulDataLoader around the pruning sampler: both states saved, loaded in any order, and on it goes.

And torch's own DataLoader where workers read ahead of training, which keeps no state.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import toy
from torch.utils.data import DataLoader

import fastprune

stateful = pytest.importorskip("torchdata.stateful_dataloader")

EPOCHS, BATCH = 5, 5
OPTIONS: dict[str, Any] = dict(keep_fraction=0.4, warmup_epochs=1, cycle_epochs=2, seed=5)
# (epoch, batches): 11 batches are an epoch of the warm-up, 5 (the last a short one) one after it; None: after the loop,
# before the scoring pass, if one is due.
PLACES = {
    "inside the warm-up": (0, 4),
    "at the warm-up's last batch": (0, 11),
    "after the warm-up's loop": (0, None),
    "inside a cycle": (2, 2),
    "at a cycle's last batch": (2, 5),
    "after a cycle's loop": (2, None),
}
WORKERS: dict[str, dict[str, Any]] = {
    "no workers": dict(num_workers=0),
    "workers": dict(num_workers=2),
    "persistent workers": dict(num_workers=2, persistent_workers=True, prefetch_factor=3),
}


class Loop(toy.Loop):
    """A user's loop with a loader of that kind."""

    def __init__(self, kind: type, method: str, **loader: Any) -> None:
        super().__init__(batch_size=BATCH, method=method, **OPTIONS)
        self.loader = self.reading(self.pruner.sampler, kind, **loader)


def check_resume(whole: Loop, kind: type, method: str, place: str, *names: str, **loader: Any) -> None:
    """Stop there, load what is named into fresh objects, and compare with the run that was not stopped."""
    first = Loop(kind, method, **loader).run(EPOCHS, PLACES[place])
    state = first.state()
    second = Loop(kind, method, **loader)
    torch.manual_seed(999)  # a new process has another global state
    second.load(state, *names)
    second.run(EPOCHS)
    assert {e: first.seen.get(e, []) + second.seen.get(e, []) for e in range(EPOCHS)} == whole.seen
    assert torch.equal(second.net.weights(), whole.net.weights())


@pytest.fixture(scope="module")
def wholes() -> dict[str, Loop]:
    """The runs that were not stopped, by method; in a plain loader, which all loaders must equal."""
    return {method: Loop(DataLoader, method).run(EPOCHS) for method in ("el2n", "el2n-free")}


either_order = pytest.mark.parametrize("names", [("loader", "pruner"), ("pruner", "loader")], ids=" then ".join)


@either_order
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("method", ["el2n", "el2n-free"])
def test_both_states_loaded_in_any_order(wholes: dict[str, Loop], method: str, place: str, names: tuple[str]) -> None:
    check_resume(wholes[method], stateful.StatefulDataLoader, method, place, *names)


@either_order
@pytest.mark.parametrize("place", ["inside a cycle", "at a cycle's last batch", "after a cycle's loop"])
@pytest.mark.parametrize("workers", ["workers", "persistent workers"])
def test_both_states_where_workers_read_ahead(
    wholes: dict[str, Loop], workers: str, place: str, names: tuple[str]
) -> None:
    check_resume(wholes["el2n"], stateful.StatefulDataLoader, "el2n", place, *names, **WORKERS[workers])


@pytest.mark.parametrize("place", ["inside a cycle", "at a cycle's last batch"])
@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("kind", [DataLoader, stateful.StatefulDataLoader])
def test_the_pruners_state_alone_is_enough(wholes: dict[str, Loop], kind: type, workers: str, place: str) -> None:
    check_resume(wholes["el2n"], kind, "el2n", place, "pruner", **WORKERS[workers])


@pytest.mark.parametrize("workers", ["workers", "persistent workers"])
@pytest.mark.parametrize("kind", [DataLoader, stateful.StatefulDataLoader])
def test_workers_see_each_cycles_kept_set(wholes: dict[str, Loop], kind: type, workers: str) -> None:
    loop = Loop(kind, "el2n", **WORKERS[workers]).run(EPOCHS)
    assert loop.seen == wholes["el2n"].seen
    assert torch.equal(loop.net.weights(), wholes["el2n"].net.weights())
    assert set(loop.seen[1]) == set(loop.seen[2]) != set(loop.seen[3])


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("ranks", [2, 3])
def test_the_share_of_a_rank_goes_on_where_it_was(workers: str, ranks: int) -> None:
    """The loop of DistributedDataParallel, in which one process plays the last rank."""

    def build() -> tuple[fastprune.DynamicPruner, Any]:
        pruner = fastprune.DynamicPruner(toy.N, method="random", **OPTIONS)
        share = pruner.sampler.shard(ranks - 1, ranks)
        return pruner, stateful.StatefulDataLoader(range(toy.N), sampler=share, batch_size=4, **WORKERS[workers])

    pruner, loader = build()
    whole = [[batch.tolist() for batch in loader] for _ in pruner.epochs(3)]
    pruner, loader = build()
    for epoch in pruner.epochs(3):
        read = []
        for batch in loader:
            read.append(batch.tolist())
            pruner.progress.take_in(4 * ranks)
            if epoch == 1 and len(read) == 1:
                break
        if epoch == 1:
            break
    states = pruner.state_dict(), loader.state_dict()
    pruner, loader = build()
    pruner.load_state_dict(states[0])
    loader.load_state_dict(states[1])
    rest = [[batch.tolist() for batch in loader] for _ in pruner.epochs(3)]
    assert [read + rest[0], rest[1]] == whole[1:]
