"""What every rank runs under torchrun for test_plain_ddp.py: users' loops, and what they did for the test to judge.

Rank 0 leaves a file with the outcome of each case on every rank; the tests know what it should be.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
import torch.distributed as dist
from helpers import toy, under_torchrun
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

import fastprune
from fastprune.pruning import exchange

EPOCHS, BATCH = 6, 4
OPTIONS: dict[str, Any] = dict(keep_fraction=0.4, warmup_epochs=1, cycle_epochs=2, seed=5)
STOPS = ("at a cycle's end", "inside a cycle")


def steps_before(place: str, world_size: int) -> int:
    """How many steps a run has taken there: a warm-up, the first cycle, and one step of the second."""
    warmup, epoch = (-(-size // (BATCH * world_size)) for size in (toy.N, round(0.4 * toy.N)))
    return warmup + 2 * epoch + STOPS.index(place)


class Loop(toy.Loop):
    """A plain DistributedDataParallel loop around a pruner.  In one process one without it."""

    def __init__(self, method: str) -> None:
        super().__init__(batch_size=BATCH, method=method, **OPTIONS)
        self.rank, self.world_size = exchange.world()
        if dist.is_initialized():
            # Looking for unused parameters keeps gradients in one layout: else a new process has another in its first
            # step, and Gloo adds up four ranks' gradients in another order.
            self.model = DistributedDataParallel(self.net, find_unused_parameters=True)
        self.loader = self.reading(self.pruner.sampler.shard(self.rank, self.world_size))
        torch.manual_seed(100 + self.rank)

    def run_saving(self, checkpoints: Mapping[int, Path]) -> Self:
        """Train to the end, and save after those steps that ``checkpoints`` names."""
        done = 0
        for _, batches in self.train(EPOCHS):
            done += batches is not None
            if batches is not None and done in checkpoints:
                self.save(checkpoints[done])
        return self

    def save(self, path: Path) -> None:
        """A checkpoint as users make it: the state of rank 0, and each rank's random state."""
        self.pruner.exchange()
        if self.rank == 0:
            torch.save(self.state(), path)
        torch.save(torch.get_rng_state(), f"{path}.{self.rank}")
        dist.barrier()

    def read(self, path: Path) -> None:
        """Go on from there."""
        self.load(torch.load(path, weights_only=True))
        torch.set_rng_state(torch.load(f"{path}.{self.rank}"))

    def outcome(self) -> dict[str, Any]:
        return {
            "weights": self.net.weights(),
            "history": self.pruner.history.state_dict(),
            "state": self.pruner.state_dict(),
            "kept": self.kept,
            "steps": self.steps,
            "rescored": self.rescored,
        }


def trains(method: str, folder: Path) -> dict[str, Any]:
    """The whole run, and its rest in fresh processes' place after each checkpoint."""
    ranks = dist.get_world_size()
    paths = {place: folder / f"{place}, {method.partition(':')[0]}.pt" for place in STOPS if ranks > 1}
    whole = Loop(method).run_saving({steps_before(place, ranks): path for place, path in paths.items()})
    resumed = {}
    for place, path in paths.items():
        loop = Loop(method)
        torch.manual_seed(999)  # a new process has another global state
        loop.read(path)
        resumed[place] = loop.run(EPOCHS).outcome()
    return {"whole": whole.outcome(), "resumed": resumed}


def reads_few(folder: Path) -> dict[str, Any]:
    """Data sets and kept sets that are smaller than the number of ranks, or not divisible by it."""
    found: dict[str, Any] = {}
    for n, keep in ((1, 1.0), (2, 0.5), (3, 0.34), (5, 0.6), (7, 0.99)):
        pruner = fastprune.DynamicPruner(n, keep_fraction=keep, method="el2n-free")
        loader = DataLoader(range(n), sampler=pruner.sampler.shard(dist.get_rank(), dist.get_world_size()))
        read, kept = [], []
        for _ in pruner.epochs(3):
            kept.append(pruner.kept_indices.tolist())
            read.append([])
            for index in loader:
                pruner.observe(index, index + 0.5)
                read[-1] += index.tolist()
        found[str(n)] = {"read": read, "kept": kept, "history": pruner.history.state_dict()}
    return found


def observes_on_some(folder: Path) -> dict[str, Any]:
    """Only rank 0 has something to tell, and in the second epoch only the last rank."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    pruner = fastprune.DynamicPruner(12, keep_fraction=0.5, method="el2n-free")
    for epoch in pruner.epochs(3):
        share = list(pruner.sampler.shard(rank, world_size))
        if rank == (0, world_size - 1, 0)[epoch]:
            for index in share:
                pruner.observe(torch.tensor([index]), torch.tensor([index + epoch / 8]))
    return {"history": pruner.history.state_dict(), "kept": pruner.kept_indices.tolist()}


def gathers_large_indices(folder: Path) -> dict[str, Any]:
    """Indices beyond what fp32 and int32 hold, with scores in bfloat16, and nothing from the last of several ranks."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    index = torch.tensor([2**24 + 1, 2**31 + 3, 2**53 + 1]) + 100 * rank
    scores = {"loss": torch.tensor([1.5, 2.5, 3.5], dtype=torch.bfloat16) + rank, "probabilities": torch.rand(3, 4)}
    batches = [(index[:2], {m: s[:2] for m, s in scores.items()}), (index[2:], {m: s[2:] for m, s in scores.items()})]
    own = batches if rank < world_size - 1 or world_size == 1 else []
    by_step = list(exchange.gather_batches(own, ("loss", "probabilities")))
    everything = exchange.gather_scores(index, scores, ("probabilities", "loss"))
    nothing = list(exchange.gather_batches([], ("loss",)))
    return {"own": own, "by_step": by_step, "scores": (index, scores), "everything": everything, "nothing": nothing}


def reads_in_pairs(folder: Path) -> dict[str, Any]:
    """Two ranks at a time read the same examples, as those of a tensor-parallel model do."""
    shares = max(1, dist.get_world_size() // 2)
    pruner = fastprune.DynamicPruner(21, keep_fraction=0.4, method="el2n-free")
    share = pruner.sampler.shard(dist.get_rank() * shares // dist.get_world_size(), shares)
    return observed(pruner, DataLoader(range(21), sampler=share, batch_size=3))


def observed(pruner: fastprune.DynamicPruner, loader: Any) -> dict[str, Any]:
    """The kept sets and the history where an example's score depends on it and on the epoch alone."""
    kept = []
    for epoch in pruner.epochs(4):
        kept.append(pruner.kept_indices.tolist())
        for index in loader:
            pruner.observe(index, (index * (5 + epoch) % 21).float())
    return {"kept": kept, "history": pruner.history.state_dict(), "seen": pruner.progress.examples_seen}


def refuses_half_a_state(folder: Path) -> dict[str, Any]:
    pruner = fastprune.DynamicPruner(8, keep_fraction=0.5)
    next(pruner.epochs(2))
    pruner.observe(torch.tensor([dist.get_rank()]), torch.tensor([1.0]))
    message = failure(pruner.state_dict)
    pruner.exchange()
    return {"message": message, "visits": pruner.state_dict()["history"]["visits"]}


def fails_together(folder: Path) -> dict[str, Any]:
    """The last rank's scoring pass fails, in two ways; the next one does not."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    pruner = fastprune.DynamicPruner(8, keep_fraction=0.5, method="el2n")
    next(pruner.epochs(2))

    def raises(index: torch.Tensor) -> torch.Tensor:
        if rank == world_size - 1:
            raise ZeroDivisionError("no batch")
        return index.float()

    def has_another_shape(index: torch.Tensor) -> torch.Tensor:
        return torch.ones(2, 3) if rank == world_size - 1 else index.float()

    messages = [failure(lambda: pruner.rescore(raises)), failure(lambda: pruner.rescore(has_another_shape))]
    due = pruner.wants_scores
    pruner.rescore(lambda index: index.float())
    return {"messages": messages, "due": due, "scores": pruner.history.value("el2n")}


def failure(call: Callable[[], Any]) -> str:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


CASES = (reads_few, observes_on_some, reads_in_pairs, gathers_large_indices, refuses_half_a_state, fails_together)


def main(folder: Path, methods: list[str]) -> None:
    under_torchrun.begin()
    cases = [(case.__name__, case, (folder,)) for case in CASES] + [(m, trains, (m, folder)) for m in methods]
    for name, case, arguments in cases:
        everyone: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, case(*arguments))
        if dist.get_rank() == 0:
            torch.save(everyone, folder / f"{name.partition(':')[0]}.result")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
