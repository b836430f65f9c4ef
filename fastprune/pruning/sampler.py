"""The sampler: positions of the stream, in the order of the current kept set.

It samples the *unchanged* data set.  The order depends on (seed, epoch, kept indices) alone: the same on
every rank and on every resume, and no global random state is touched.  Every rank iterates the whole order:
accelerate and Lightning deal it out; a plain DistributedDataParallel loop wraps it in `RankSampler`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler

from fastprune.pruning.schedule import Piece

VERSION = 1
TOP_UP_SEED = 1 << 32
BLOCK = 4096
Arrange = Callable[[Tensor, torch.Generator], Tensor]


class PruningSampler(Sampler[int]):
    """Yields the indices of one `Piece` of the stream per iteration.

    A permutation of epoch e is ``torch.randperm(size)`` from a generator seeded with ``seed + e``: the order
    of accelerate's seedable random sampler, so that keeping everything reproduces an untouched HF Trainer.

    Args:
        n: size of the data set.
        seed: of the permutations.
        arrange: optional pure function ``(order, generator) -> order`` applied to every epoch's
            permutation, for instance to group examples of like length into batches.
    """

    def __init__(self, n: int, *, seed: int = 0, arrange: Arrange | None = None) -> None:
        self.n = n
        self.seed = seed
        self.arrange = arrange
        self.pieces: Sequence[Piece] = ()
        self.epoch = 0
        self.indices: Tensor | None = None
        self.kept_phase = 0
        self.started_at = 0
        self.yielded = 0
        self._resume_at = 0

    @property
    def piece(self) -> Piece:
        """The piece the next iteration reads.

        Raises:
            RuntimeError: no run is planned yet.
        """
        if not self.pieces:
            raise RuntimeError(
                "the sampler has no plan yet: iterate the loader inside `for epoch in pruner.epochs(E)`, "
                "or attach the pruner to a trainer"
            )
        return self.pieces[self.epoch]

    def set_epoch(self, epoch: int) -> None:
        """Move to piece number ``epoch``; idempotent.  In a plain loop a piece is a user epoch."""
        if epoch != self.epoch:
            self.epoch = epoch
            self.rewind()

    def rewind(self) -> None:
        """Read the current piece from its beginning, for loops that skip what was read before themselves."""
        self.start_at(0)

    def start_at(self, position: int) -> None:
        """Let the next iteration leave out the first ``position`` examples of the current piece."""
        self.started_at = self.yielded = self._resume_at = position

    def keep(self, indices: Tensor | None, phase: int) -> None:
        """From now on the pieces of ``phase`` read these examples (None: all of them)."""
        self.indices = indices
        self.kept_phase = phase

    def __len__(self) -> int:
        return len(self.piece)

    def __iter__(self) -> Iterator[int]:
        piece = self.piece
        if piece.phase.index != self.kept_phase:
            raise RuntimeError(
                f"piece {self.epoch} belongs to phase {piece.phase.index}, but the kept set is that of phase "
                f"{self.kept_phase}: select for the new phase before iterating"
            )
        start, self._resume_at = self._resume_at, 0
        self.started_at = self.yielded = start
        for index in one_by_one(self.piece_indices()[start:]):
            self.yielded += 1
            yield index

    def piece_indices(self) -> Tensor:
        """All indices of the current piece in order, int64 (len(self),)."""
        piece = self.piece
        size = piece.phase.size
        passes = range(piece.start // size, (piece.stop - 1) // size + 1)
        stretch = torch.cat([self._permutation(piece, p) for p in passes])
        offset = piece.start - passes.start * size
        return stretch[offset : offset + len(piece)]

    def state_dict(self) -> dict[str, Any]:
        """Position and kept set; ``yielded`` counts what this piece has handed out."""
        return {
            "version": VERSION,
            "n": self.n,
            "seed": self.seed,
            "epoch": self.epoch,
            "yielded": self.yielded,
            "kept_phase": self.kept_phase,
            "indices": None if self.indices is None else self.indices.clone(),
        }

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Refuse the state of something else.

        Raises:
            ValueError: the state is of another version, data set size or seed.
        """
        for key, value in {"version": VERSION, "n": self.n, "seed": self.seed}.items():
            if state.get(key) != value:
                raise ValueError(f"the saved sampler has {key} = {state.get(key)!r}, this run has {value!r}")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state_dict()`` was taken: the next iteration starts after ``yielded``.

        Raises as `check_state`, before anything is changed.
        """
        self.check_state(state)
        self.epoch = int(state["epoch"])
        self.start_at(int(state["yielded"]))
        self.keep(state["indices"], int(state["kept_phase"]))

    def shard(self, rank: int, world_size: int) -> RankSampler:
        """The part of every piece that one of several processes reads, for a plain distributed loop."""
        return RankSampler(self, rank, world_size)

    def _permutation(self, piece: Piece, number: int) -> Tensor:
        phase = piece.phase
        epoch = phase.first_epoch + number
        # A top-up must not repeat the permutation with which the next phase starts.
        seed = self.seed + epoch + (TOP_UP_SEED if number >= phase.epochs else 0)
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(phase.size, generator=generator, device="cpu")
        if self.indices is not None:
            order = self.indices[order]
        return order if self.arrange is None else self.arrange(order, generator)


def one_by_one(indices: Tensor) -> Iterator[int]:
    """Its integers, made block by block: a list of them all takes 36 bytes an index, and as long as the permutation."""
    for block in indices.split(BLOCK):
        yield from block.tolist()


class RankSampler(Sampler[int]):
    """Every ``world_size``-th index of a `PruningSampler`, from number ``rank`` on.

    As in torch's ``DistributedSampler``, the order is filled up from its beginning so that all ranks read equally
    many; `DynamicPruner` counts the scores of such repeats once.
    """

    def __init__(self, sampler: PruningSampler, rank: int, world_size: int) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in [0, {world_size}) for world_size={world_size}, got {rank}")
        self.sampler = sampler
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.world_size)

    def __iter__(self) -> Iterator[int]:
        order = list(self.sampler)
        first = self.sampler.piece_indices()[: -len(order) % self.world_size].tolist()
        return iter((order + first)[self.rank :: self.world_size])

    def set_epoch(self, epoch: int) -> None:
        """As `PruningSampler.set_epoch`."""
        self.sampler.set_epoch(epoch)
