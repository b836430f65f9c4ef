"""Where one call of the Trainer's loop is, and the counts the Trainer derives from an epoch's length."""

from __future__ import annotations

import math
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
    corrected: bool = False
    save_late: bool = False
    awaits_scores: bool = False
    batch_indices: list[Tensor] | None = None

    @property
    def in_chunk(self) -> int:
        """Examples of the chunk read by the steps so far, on all processes; it counts as read when its batches are."""
        return self.epochs.chunk if self.micro >= self.batches else self.micro * self.global_batch

    @property
    def position(self) -> int:
        """Examples of the stream read by the steps so far."""
        return self.number * self.epochs.chunk + self.in_chunk

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


def steps_of(batches: int, args: Any) -> int:
    """Optimizer steps of so many batches."""
    return -(-batches // args.gradient_accumulation_steps)


def correct(values: list[Any], run: Run, max_steps: int) -> None:
    """Set right what the Trainer derives from an epoch's length.

    ``values`` is the result of ``set_initial_training_values``: epochs, steps an epoch, examples, samples, …,
    steps.  Samples are epochs times the data set's size there, for the throughput it reports.  Before 4.52
    an epoch that does not divide into accumulated steps is counted without its last step, and the
    micro-batches of that step are computed from the number of examples where that of batches is meant.
    """
    if max_steps <= 0:
        values[3] = len(run.pieces) * run.epochs.chunk
    run.corrected = values[1] != run.steps
    if run.corrected:
        values[1], values[2] = run.steps, run.batches
        values[0] = len(run.pieces) if max_steps <= 0 else -(-max_steps // run.steps)
        values[6] = len(run.pieces) * run.steps if max_steps <= 0 else max_steps
