"""What every rank runs under torchrun for test_accelerate.py: a user's loop with accelerate in several set-ups.

Rank 0 leaves a file with the outcome of each case on every rank; the tests know what it should be.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any, Self

import torch
import torch.distributed as dist
from accelerate import Accelerator, DataLoaderConfiguration, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState, GradientState, PartialState
from helpers import toy, under_torchrun
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Sampler

import fastprune

EPOCHS, BATCH = 5, 4
OPTIONS: dict[str, Any] = dict(warmup_epochs=1, cycle_epochs=2, seed=5)
SETUPS: dict[str, dict[str, Any]] = {
    "plain": {},
    "scoring pass": dict(method="el2n"),
    "random": dict(method="random"),
    "accumulated": dict(accumulation=2),
    "split": dict(loading=dict(split_batches=True)),
    "dispatched": dict(loading=dict(dispatch_batches=True)),
    "drop last": dict(drop_last=True),
    "workers": dict(num_workers=1),
}
PLACES = {"inside the warm-up": (0, 2), "at an epoch's last batch": (2, "last"), "inside a cycle": (3, 1)}


def accelerator(accumulation: int = 1, **loading: Any) -> Accelerator:
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
    # Looking for unused parameters keeps gradients in one layout, see pruning_worker.
    return Accelerator(
        cpu=True,
        gradient_accumulation_steps=accumulation,
        dataloader_config=DataLoaderConfiguration(**loading),
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


class Loop(toy.Loop):
    """A user's loop with accelerate."""

    def __init__(
        self,
        method: str = "el2n-free",
        keep_fraction: float = 0.4,
        accumulation: int = 1,
        loading: dict[str, Any] | None = None,
        **loader: Any,
    ) -> None:
        self.accelerator = accelerator(accumulation, **loading or {})
        ranks, split = self.accelerator.num_processes, self.accelerator.split_batches
        batch = BATCH * ranks if split else BATCH
        super().__init__(batch_size=batch, method=method, keep_fraction=keep_fraction, **OPTIONS)
        plain, optimizer = self.reading(self.pruner.sampler, **loader), self.optimizer
        self.model, self.optimizer = self.accelerator.prepare(self.net, optimizer)
        self.loader = fastprune.prepare_accelerate(self.accelerator, self.pruner, plain)
        steps = self.pruner.total_batches(EPOCHS, batch_size=BATCH * ranks * accumulation) * (1 if split else ranks)
        self.scheduler = self.accelerator.prepare(LambdaLR(optimizer, lambda step: 1 - step / steps))
        torch.manual_seed(100 + self.accelerator.process_index)

    def run_saving(self, checkpoints: dict[tuple[int, int | str], Path]) -> Self:
        """Train to the end; save after some batches on the way."""
        for epoch, batches in self.train(EPOCHS):
            place = (epoch, "last" if self.accelerator.gradient_state.end_of_dataloader else batches)
            if batches is not None and place in checkpoints:
                self.accelerator.save_state(str(checkpoints[place]))
        return self

    def step(self, *batch: Any) -> None:
        with self.accelerator.accumulate(self.model):
            super().step(*batch)

    def update(self, loss: torch.Tensor) -> None:
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()

    def outcome(self) -> dict[str, Any]:
        return {
            "weights": self.net.weights(),
            "learning rate": self.scheduler.get_last_lr()[0],
            "history": self.pruner.history.state_dict(),
            "position": self.pruner.progress.position,
            "kept": self.kept,
            "steps": self.steps,
            "rescored": self.rescored,
        }


def trains(setup: str, folder: Path) -> dict[str, Any]:
    """The whole run, and its rest in fresh processes' place after each checkpoint."""
    settings = SETUPS[setup]
    accumulation = settings.get("accumulation", 1)
    paths = {
        (epoch, batch if batch == "last" else int(batch) * accumulation): folder / f"{setup}, {place}"
        for place, (epoch, batch) in PLACES.items()
    }
    whole = Loop(**settings).run_saving(paths)
    resumed = {}
    for place, path in zip(PLACES, paths.values(), strict=True):
        loop = Loop(**settings)
        torch.manual_seed(999)  # a new process has another global state
        loop.accelerator.load_state(str(path))
        resumed[place] = loop.run(EPOCHS).outcome()
    return {"whole": whole.outcome(), "resumed": resumed}


class GivenOrders(Sampler[int]):
    """An ordinary sampler: a permutation an epoch."""

    def __init__(self) -> None:
        self.epoch = 0

    def __len__(self) -> int:
        return toy.N

    def __iter__(self) -> Any:
        generator = torch.Generator().manual_seed(OPTIONS["seed"] + self.epoch)
        return iter(torch.randperm(toy.N, generator=generator).tolist())


def changes_nothing(folder: Path) -> dict[str, Any]:
    """keep_fraction=1.0, and the same loop without fastprune's sampler, scores or pruner."""
    pruned = Loop(keep_fraction=1.0).run(EPOCHS)
    random_state = torch.get_rng_state()
    plain = accelerator()
    net = toy.Net(noise=True)
    optimizer = toy.optimizer(net)
    steps = EPOCHS * -(-toy.N // (BATCH * plain.num_processes)) * plain.num_processes
    sampler = GivenOrders()
    loader = DataLoader(toy.data(), sampler=sampler, batch_size=BATCH, generator=torch.Generator())
    scheduler = LambdaLR(optimizer, lambda step: 1 - step / steps)
    model, optimizer, loader, scheduler = plain.prepare(net, optimizer, loader, scheduler)
    torch.manual_seed(100 + plain.process_index)
    for epoch in range(EPOCHS):
        sampler.epoch = epoch
        for x, y, _ in loader:
            plain.backward(fastprune.cross_entropy(model(x), y, reduction="none").mean())
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    return {
        "weights": (pruned.net.weights(), net.weights()),
        "random states": (random_state, torch.get_rng_state()),
    }


def reads_uneven_batches(folder: Path) -> dict[str, Any]:
    """even_batches=False: nothing is repeated, and the ranks' last batches differ or are missing."""
    pruner = fastprune.DynamicPruner(toy.N, keep_fraction=0.4, method="el2n-free", **OPTIONS)
    loader = DataLoader(range(toy.N), sampler=pruner.sampler, batch_size=BATCH)
    loader = fastprune.prepare_accelerate(accelerator(even_batches=False), pruner, loader)
    steps, kept = {}, {}
    for epoch in pruner.epochs(EPOCHS):
        kept[epoch] = pruner.kept_indices.tolist()
        steps[epoch] = []
        for index in loader:
            scores = {"el2n": (index * 7 % 10).float() + epoch / 8}
            pruner.observe(index, scores)
            steps[epoch].append((index, scores))
    return {"steps": steps, "kept": kept, "history": pruner.history.state_dict()}


def refuses(folder: Path) -> dict[str, Any]:
    pruner = fastprune.DynamicPruner(toy.N, keep_fraction=0.4)
    messages = []
    for sampler, loading in ((None, {}), (pruner.sampler, dict(use_stateful_dataloader=True))):
        with contextlib.suppress(ImportError):
            chosen = accelerator(**loading)
            try:
                fastprune.prepare_accelerate(chosen, pruner, DataLoader(range(toy.N), sampler=sampler))
            except ValueError as error:
                messages.append(str(error))
    return {"messages": messages}


def prepares_a_prepared_loader(folder: Path) -> dict[str, Any]:
    """All at once, as DeepSpeed wants it, and then the loader once more."""
    chosen = accelerator()
    pruner = fastprune.DynamicPruner(7, keep_fraction=0.5)
    loader = chosen.prepare(DataLoader(range(7), sampler=pruner.sampler, batch_size=2))
    again = fastprune.prepare_accelerate(chosen, pruner, loader)
    next(pruner.epochs(1))
    return {"same": loader is again, "read": [batch.tolist() for batch in again]}


CASES = (changes_nothing, reads_uneven_batches, refuses, prepares_a_prepared_loader)


def main(folder: Path, setups: list[str]) -> None:
    under_torchrun.begin()
    cases = [(case.__name__, case, (folder,)) for case in CASES] + [(s, trains, (s, folder)) for s in setups]
    for name, case, arguments in cases:
        everyone: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, case(*arguments))
        if dist.get_rank() == 0:
            torch.save(everyone, folder / f"{name}.result")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
