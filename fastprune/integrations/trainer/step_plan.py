"""How a Trainer reads a run: its chunks in batches and optimizer steps."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import transformers

from fastprune.pruning import Budget, Driver, Piece, Progress
from fastprune.pruning.chunks import chunk_pieces
from fastprune.pruning.schedule import epochs_until


class TrainingValues(NamedTuple):
    """What ``Trainer.set_initial_training_values`` returns, from transformers 4.54 to 5.x."""

    epochs: int
    steps_of_epoch: int
    examples: int
    samples: int
    unused: int
    batches_of_epoch: int | None
    max_steps: int

    @classmethod
    def of(cls, values: Sequence[Any]) -> TrainingValues:
        """Give each of the values its name.

        Raises:
            RuntimeError: this version of transformers returns a different number of values.
        """
        if len(values) != len(cls._fields):
            raise RuntimeError(
                f"this version of transformers ({transformers.__version__}) returns {len(values)} values from "
                f"set_initial_training_values, but fastprune expects {len(cls._fields)}. "
                "Install transformers 5.24, and report this problem to fastprune"
            )
        return cls(*values)


@dataclass(frozen=True)
class StepPlan:
    """Translates what a Trainer counts into positions of a run, and back.

    Attributes:
        progress: the progress of the run.  Its plan says where chunks and the user's epochs end.
        batch: how many examples all processes together read in one batch.
        batches: how many batches each process reads in one chunk.
        steps: how many optimizer steps one chunk takes.
        accumulation: how many batches one optimizer step uses.
    """

    progress: Progress
    batch: int
    batches: int
    steps: int
    accumulation: int

    @property
    def step(self) -> int:
        """Examples of an optimizer step, on all processes."""
        return self.batch * self.accumulation

    def place_at(self, global_step: int) -> tuple[int, int]:
        """Return the piece number, and the position in that piece, after ``global_step`` optimizer steps.

        If this place is between two pieces, the end of the first piece is returned.
        """
        number, steps = divmod(global_step, self.steps)
        if number and not steps:
            return number - 1, len(self.progress.pieces[number - 1])
        return number, self.position_after(number, steps * self.accumulation)

    def position_after(self, number: int, batches: int) -> int:
        """Return the position in a piece after ``batches`` batches.  After all its batches, this is the end."""
        return len(self.progress.pieces[number]) if batches >= self.batches else batches * self.batch

    def batches_until(self, number: int, position: int) -> int:
        """The batches of a piece that lie before a position."""
        return self.batches if position >= len(self.progress.pieces[number]) else position // self.batch

    def steps_until(self, position: int) -> int:
        """Return the smallest number of optimizer steps that reads the first ``position`` examples of the run."""
        starts = self.progress.epochs.starts
        number = max(bisect_left(starts, position) - 1, 0)
        return number * self.steps + min(-(-(position - starts[number]) // self.step), self.steps)

    def steps_of_epochs(self, epochs: float) -> int:
        """Return the number of optimizer steps in ``epochs`` user epochs.

        If ``epochs`` is not whole, the last epoch is cut.  It keeps that fraction of its steps, rounded up.
        """
        whole = int(epochs)
        start, end = (self.steps_until(self.progress.epochs.end_of(e)) for e in (whole, whole + 1))
        return start + math.ceil((epochs - whole) * (end - start))


def plan_steps(driver: Driver, args: Any, batch_size: int) -> tuple[list[Piece], StepPlan]:
    """Plan the chunks for num_train_epochs user epochs.

    If max_steps is set, plan enough user epochs for max_steps steps instead.

    Args:
        driver: the driver that will read the chunks.
        args: the Trainer's arguments.
        batch_size: how many examples one process reads in a batch.

    Returns:
        The chunks, and the plan that turns the Trainer's counts into positions in them.

    Raises:
        ValueError: some arguments cannot be used with pruning.  The message says which.
    """
    batch, accumulation = batch_size * args.world_size, args.gradient_accumulation_steps

    def planned(epochs: int) -> tuple[list[Piece], StepPlan]:
        pieces = chunk_pieces(driver.phases(epochs), batch * accumulation, batch)
        shortest = min(map(len, pieces))
        if not batches_of_chunk(shortest, batch_size, args):
            raise ValueError(
                f"dataloader_drop_last drops a whole chunk of {shortest} examples: it has less than one batch of "
                f"{batch_size} for each of {args.world_size} processes. Set dataloader_drop_last to False, or "
                "lower per_device_train_batch_size"
            )
        batches = batches_of_chunk(len(pieces[0]), batch_size, args)
        return pieces, StepPlan(driver.progress, batch, batches, -(-batches // accumulation), accumulation)

    def enough(epochs: int) -> bool:
        pieces, plan = planned(epochs)
        return len(pieces) * plan.steps >= args.max_steps

    epochs = _epochs_asked_for(args, driver.schedule.keep_fraction)
    if epochs is None:
        epochs = epochs_until(driver.schedule, driver.n, args.max_steps * batch * accumulation, enough)
    return planned(epochs)


def ends_within_an_epoch(args: Any) -> bool:
    """Return whether num_train_epochs sets the length of the run and is not a whole number."""
    return args.max_steps <= 0 and args.num_train_epochs != int(args.num_train_epochs)


def _epochs_asked_for(args: Any, keep_fraction: Any) -> int | None:
    """Whole user epochs to plan.  None if max_steps says how long the run is."""
    if args.max_steps > 0:
        if isinstance(keep_fraction, Budget):
            raise ValueError(
                "a Budget is a share of num_train_epochs, but max_steps overrides num_train_epochs. "
                "Use a Budget or max_steps, not both"
            )
        return None
    if not 0 < args.num_train_epochs < math.inf:
        raise ValueError(f"num_train_epochs must be > 0 when pruning, got {args.num_train_epochs!r}")
    epochs = math.ceil(args.num_train_epochs)
    if ends_within_an_epoch(args) and isinstance(keep_fraction, Budget):
        raise ValueError(
            f"a Budget is a share of whole epochs, but num_train_epochs={args.num_train_epochs!r} is not whole. "
            f"Set num_train_epochs to {epochs}, or set keep_fraction to a number"
        )
    return epochs


def batches_of_chunk(chunk: int, batch_size: int, args: Any) -> int:
    """Return how many batches of a chunk one process gets.

    accelerate gives out whole batches, and every process gets the same number.
    """
    if args.dataloader_drop_last:
        return chunk // batch_size // args.world_size
    return math.ceil(math.ceil(chunk / batch_size) / args.world_size)


def unfit(smallest: int, n: int, args: Any, batch_size: int) -> str | None:
    """What to change if the smallest epoch of a pruned run holds fewer examples than a batch, or than a step.

    None if there is nothing to say.
    """
    world_size, accumulation = args.world_size, args.gradient_accumulation_steps
    batch = batch_size * world_size
    if smallest == n or smallest >= batch * accumulation:
        return None
    if smallest >= batch:
        return (
            f"pruning keeps {smallest} examples, but an optimizer step reads {batch * accumulation}. "
            "So the step reads some examples more than once. "
            f"Set gradient_accumulation_steps to {smallest // batch} or less, or keep more examples"
        )
    fitting = (
        f"Let each process read {smallest // world_size} or fewer examples in a batch"
        if smallest >= world_size
        else f"Train on {smallest} process{'es' * (smallest > 1)} or fewer"
    )
    every = " without gradient accumulation" if accumulation > 1 else ""
    return (
        f"pruning keeps {smallest} examples, but all processes together read {batch} in a batch. "
        f"So an epoch of this size is one short step{every}. {fitting}, or keep more examples"
    )
