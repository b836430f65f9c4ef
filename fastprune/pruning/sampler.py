"""The sampler: positions of the stream, in the order of the current kept set.

It samples the *unchanged* data set.  The order depends on (seed, epoch, kept indices) alone: the same on
every rank and on every resume, and no global random state is touched.  Every rank iterates the whole order:
accelerate and Lightning deal it out; a plain DistributedDataParallel loop takes its `RankSampler`.

The pruner moves the sampler and keeps its state.  The sampler has no ``state_dict`` of its own: torchdata's
StatefulDataLoader would load it while an iteration begins, and undo what the pruner has chosen since.  What that loader
saves and loads is the position of the iterator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler

from fastprune.pruning.crossing import first_needed, without
from fastprune.pruning.schedule import Phase, Piece

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
        self._made: dict[tuple[Phase, int, int], Tensor] = {}

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

    def move_to(self, piece: int) -> None:
        """Read piece number ``piece`` from its beginning; nothing happens if it is the current one."""
        if piece != self.epoch:
            self.epoch = piece
            self.rewind()

    def set_epoch(self, epoch: int) -> None:
        """Nothing: `DynamicPruner.start_piece` has moved the sampler, before a framework's count of epochs arrives.

        That count may be another: accelerate's loaders begin at 0 in a resumed process, and stand still where an epoch
        was left early.
        """

    def rewind(self) -> None:
        """Read the current piece from its beginning, for loops that skip what was read before themselves."""
        self.start_at(0)

    def start_at(self, position: int) -> None:
        """Leave out the first ``position`` examples of the current piece."""
        self.started_at = self.yielded = position

    def keep(self, indices: Tensor | None, phase: int) -> None:
        """From now on the pieces of ``phase`` read these examples (None: all of them)."""
        self.indices = indices
        self.kept_phase = phase
        self._made.clear()

    def __len__(self) -> int:
        return len(self.piece)

    def __iter__(self) -> Iterator[int]:
        return iter(self.shard(0, 1))

    def piece_indices(self) -> Tensor:
        """All indices of the current piece in order, int64 (len(self),).

        Raises:
            RuntimeError: the kept set is that of another phase.
        """
        piece = self.piece
        if piece.phase.index != self.kept_phase:
            raise RuntimeError(
                f"piece {self.epoch} belongs to phase {piece.phase.index}, but the kept set is that of phase "
                f"{self.kept_phase}: select for the new phase before iterating"
            )
        size = piece.phase.size
        orders = self._orders(piece, piece.start // size, (piece.stop - 1) // size)
        parts = [order[max(0, piece.start - p * size) : piece.stop - p * size] for p, order in orders]
        if len(piece) >= size:
            self._made.clear()  # the next piece has permutations of its own
        return torch.cat(parts)

    def snapshot(self) -> dict[str, Any]:
        """Position and kept set; ``yielded`` counts what this piece has handed out, on all ranks together."""
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

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where ``snapshot()`` was taken: iterations of its piece start after ``yielded``.

        Raises as `check_state`, before anything is changed.
        """
        self.check_state(state)
        self.epoch = int(state["epoch"])
        self.start_at(int(state["yielded"]))
        self.keep(state["indices"], int(state["kept_phase"]))

    def shard(self, rank: int, world_size: int) -> RankSampler:
        """The part of every piece that one of several processes reads, for a plain distributed loop."""
        return RankSampler(self, rank, world_size)

    def filled(self, multiple: int) -> RankSampler:
        """The whole order, filled up from its beginning to a multiple, for a loader that deals out whole batches."""
        return RankSampler(self, 0, 1, multiple)

    def _orders(self, piece: Piece, first: int, last: int) -> Iterator[tuple[int, Tensor]]:
        """Permutations ``first`` to ``last`` of the phase, with their numbers, as they follow each other."""
        size, before = piece.phase.size, None
        for number in range(first_needed(first, size, piece.distinct), last + 1):
            order = self._permutation(piece.phase, number)
            held = number * size % piece.distinct
            if before is not None and held:
                order = without(before[-held:], order, piece.distinct - held)
            before = order
            if number >= first:
                yield number, order

    def _permutation(self, phase: Phase, number: int) -> Tensor:
        """The newest two are remembered: a phase may be read in many short pieces."""
        key = phase, number, self.seed
        if key not in self._made:
            while len(self._made) > 1:
                del self._made[next(iter(self._made))]
            self._made[key] = self._make_permutation(phase, number)
        return self._made[key]

    def _make_permutation(self, phase: Phase, number: int) -> Tensor:
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

    As in torch's ``DistributedSampler``, the order is filled up from its beginning, to a multiple of ``world_size``
    unless told otherwise, so that all ranks read equally many; `DynamicPruner` counts the scores of such repeats once.
    A resumed piece is filled up with the same examples as one read at a stretch.
    """

    def __init__(self, sampler: PruningSampler, rank: int, world_size: int, multiple: int | None = None) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in [0, {world_size}) for world_size={world_size}, got {rank}")
        self.sampler = sampler
        self.rank = rank
        self.world_size = world_size
        self.multiple = world_size if multiple is None else multiple

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.multiple) * self.multiple // self.world_size

    def __iter__(self) -> Iterator[int]:
        return _Reader(self)

    def set_epoch(self, epoch: int) -> None:
        """Nothing, as `PruningSampler.set_epoch`."""

    def indices_from(self, position: int) -> Tensor:
        """What this rank reads of the current piece when its first ``position`` examples are left out."""
        order = self.sampler.piece_indices()
        return fill_up(order[position:], self.multiple, order)[self.rank :: self.world_size]


class _Reader(Iterator[int]):
    """One pass of a rank over a piece; begins with the first index asked for, as loaders make readers in advance.

    The state is what torchdata's StatefulDataLoader keeps of it, the piece and the position in it.
    """

    def __init__(self, share: RankSampler) -> None:
        self._share = share
        self._loaded: dict[str, int] = {}
        self._indices: Iterator[int] | None = None
        self._piece = 0
        self._position = 0

    def __next__(self) -> int:
        sampler = self._share.sampler
        if self._indices is None:
            self._piece, self._position = self._beginning()
            self._indices = one_by_one(self._share.indices_from(self._position))
        index = next(self._indices)
        self._position = min(self._position + self._share.world_size, len(sampler))
        sampler.yielded = self._position
        return index

    def state_dict(self) -> dict[str, int]:
        piece, position = self._beginning() if self._indices is None else (self._piece, self._position)
        return {"piece": piece, "position": position}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Begin where that reader was, if that piece is still the current one; the pruner knows better."""
        self._loaded = dict(state)

    def _beginning(self) -> tuple[int, int]:
        sampler = self._share.sampler
        same = self._loaded.get("piece") == sampler.epoch
        return sampler.epoch, self._loaded["position"] if same else sampler.started_at


def fill_up(indices: Tensor, multiple: int, order: Tensor) -> Tensor:
    """``indices`` and as many from the beginning of ``order``, again and again, as a multiple of so many wants."""
    missing = -len(indices) % multiple
    return torch.cat([indices, order.repeat(-(-missing // max(len(order), 1)))[:missing]])
