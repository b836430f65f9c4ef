"""Where one call of the Trainer's loop is, and how many batches and steps it makes of a chunk."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fastprune.integrations._epochs import UserEpochs
from fastprune.pruning import Piece


@dataclass
class Run:
    """One call of the training loop: where it is, in chunks, micro-batches and the user's epochs.

    Attributes:
        awaits_scores: a micro-batch has begun, and its first forward pass is still to come.
    """

    pieces: list[Piece]
    epochs: UserEpochs
    global_batch: int
    batches: int
    steps: int
    number: int = -1
    micro: int = 0
    skip: int = 0
    completed: int = 0
    epoch_open: bool = False
    save_late: bool = False
    awaits_scores: bool = False
    batch_indices: list[Tensor] | None = None

    @property
    def in_chunk(self) -> int:
        """Examples of the chunk read by the steps so far, on all processes; it counts as read when its batches are."""
        return len(self.pieces[self.number]) if self.micro >= self.batches else self.micro * self.global_batch

    @property
    def position(self) -> int:
        """Examples of the stream read by the steps so far."""
        return self.epochs.starts[self.number] + self.in_chunk

    @property
    def user_epochs(self) -> int:
        """How many epochs the user asked for."""
        last = self.pieces[-1].phase
        return last.first_epoch + last.epochs


def batches_of(chunk: int, batch_size: int, args: Any) -> int:
    """Batches of a chunk that one process gets; accelerate deals out whole batches and evens them out."""
    if args.dataloader_drop_last:
        return chunk // batch_size // args.world_size
    return math.ceil(math.ceil(chunk / batch_size) / args.world_size)


def unfit(smallest: int, n: int, args: Any, batch_size: int) -> str | None:
    """What to change where the smallest epoch of a pruned run holds fewer examples than a batch, or than a step.

    None where there is nothing to say.
    """
    world_size, accumulation = args.world_size, args.gradient_accumulation_steps
    batch = batch_size * world_size
    if smallest == n or smallest >= batch * accumulation:
        return None
    if smallest >= batch:
        return (
            f"pruning keeps {smallest} examples, fewer than the {batch * accumulation} of an optimizer step, which "
            f"therefore reads some of them more than once; set gradient_accumulation_steps to {smallest // batch} or "
            "less, or keep more"
        )
    fitting = (
        f"let each process read {smallest // world_size} or fewer in a batch"
        if smallest >= world_size
        else f"train on {smallest} process{'es' * (smallest > 1)} or fewer"
    )
    every = " and without gradient accumulation" if accumulation > 1 else ""
    return (
        f"pruning keeps {smallest} examples, fewer than the {batch} that all processes read in a batch, so such an "
        f"epoch is one short step{every}; {fitting}, or keep more"
    )


def steps_of(batches: int, args: Any) -> int:
    """Optimizer steps of so many batches."""
    return -(-batches // args.gradient_accumulation_steps)


def steps_to(position: int, run: Run, step: int) -> int:
    """The fewest optimizer steps, of ``step`` examples each, after which so many of the stream have been read."""
    number = max(bisect_left(run.epochs.starts, position) - 1, 0)
    return number * run.steps + min(-(-(position - run.epochs.starts[number]) // step), run.steps)


def cut_steps(epochs: float, run: Run, step: int) -> int:
    """Steps of so many user epochs, the last a part of one: as many of that epoch's as the part says."""
    whole = int(epochs)
    start, end = (steps_to(run.epochs.end_of(e), run, step) for e in (whole, whole + 1))
    return start + math.ceil((epochs - whole) * (end - start))
