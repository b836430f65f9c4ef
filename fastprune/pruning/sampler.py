"""The sampler: the order in which the examples of the current kept set are read.

It samples the *unchanged* data set.  The order depends on seed, epoch and kept indices alone.  So it is the same on
every rank and on every resume, and no global random state is touched.  The sampler yields the whole order on every
rank, and accelerate and Lightning divide it among the ranks.  A plain DistributedDataParallel loop reads a
`RankSampler` instead.

`Progress` knows where the run is, so the sampler has no ``state_dict``.  The StatefulDataLoader of torchdata would load
it at the start of an iteration, and so undo what the pruner has chosen since.  That loader saves and loads only the
place of the iterator.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.data import Sampler

from fastprune.pruning.crossing import first_needed, without
from fastprune.pruning.progress import Cursor, Progress
from fastprune.pruning.schedule import Phase, Piece

TOP_UP_SEED = 1 << 32
INDICES_AT_ONCE = 4096
Arrange = Callable[[Tensor, torch.Generator], Tensor]


class PruningSampler(Sampler[int]):
    """Yields the indices of the current `Piece` of a run, one piece per iteration.

    The permutation of epoch e is ``torch.randperm(size)`` from a generator seeded with ``seed + e``.  This is the order
    of accelerate's seedable random sampler, so that keeping everything reproduces an untouched HF Trainer.

    Args:
        n: size of the data set.
        seed: seed of the permutations.
        arrange: optional pure function ``(order, generator) -> order`` applied to every epoch's permutation, for
            instance to group examples of like length into batches.
        progress: says which piece is read, and from which position.  The sampler counts in it what it hands out.

    Example:
        >>> from fastprune import DynamicPruner
        >>> pruner = DynamicPruner(6, keep_fraction=0.5, method="random")
        >>> sampler: PruningSampler = pruner.sampler
        >>> [len(list(sampler)) for epoch in pruner.epochs(2)]
        [6, 3]
    """

    def __init__(
        self, n: int, *, seed: int = 0, arrange: Arrange | None = None, progress: Progress | None = None
    ) -> None:
        self.n = n
        self.seed = seed
        self.arrange = arrange
        self.progress = Progress() if progress is None else progress
        self.indices: Tensor | None = None
        self._made: dict[tuple[Phase, int, int], Tensor] = {}

    @property
    def pieces(self) -> Sequence[Piece]:
        """All pieces of the run, () before it is planned."""
        return self.progress.pieces

    @property
    def piece(self) -> Piece:
        """The piece that the next iteration reads.

        Raises:
            RuntimeError: the run is not planned yet.
        """
        return self.progress.piece

    @property
    def piece_number(self) -> int:
        """The number of that piece.  In a plain loop a piece is a user epoch, in a framework perhaps a part of one."""
        return self.progress.piece_number

    @property
    def epoch(self) -> int:
        """What ``piece_number`` was called in version 0.1.  It goes away in 0.3."""
        warnings.warn("sampler.epoch is called sampler.piece_number now", DeprecationWarning, stacklevel=2)
        return self.piece_number

    def set_epoch(self, epoch: int) -> None:
        """Do nothing, because the driver has entered the piece before a framework's count of epochs arrives.

        That count may differ from the piece's number.  In a resumed process a loader of accelerate begins at 0.  It
        also does not count an epoch that was left early.
        """

    def keep(self, indices: Tensor | None) -> None:
        """Read these examples from now on, or all of them if ``indices`` is None.

        ``progress.chosen_for`` says for which phase they were chosen.
        """
        self.indices = indices
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
        piece, chosen_for = self.piece, self.progress.chosen_for
        if piece.phase.index != chosen_for:
            raise RuntimeError(
                f"piece {self.piece_number} belongs to phase {piece.phase.index}, but the kept set is that of phase "
                f"{chosen_for}: select for the new phase before iterating"
            )
        size = piece.phase.size
        orders = self._orders(piece, piece.start // size, (piece.stop - 1) // size)
        parts = [order[max(0, piece.start - p * size) : piece.stop - p * size] for p, order in orders]
        if len(piece) >= size:
            self._made.clear()  # the next piece has permutations of its own
        return torch.cat(parts)

    def shard(self, rank: int, world_size: int) -> RankSampler:
        """The part of every piece that one of several processes reads, for a plain distributed loop."""
        return RankSampler(self, rank, world_size)

    def filled(self, multiple: int) -> RankSampler:
        """The whole order, filled up from its beginning to a multiple of ``multiple``.

        A loader that gives each rank whole batches reads it.
        """
        return RankSampler(self, 0, 1, multiple)

    def _orders(self, piece: Piece, first: int, last: int) -> Iterator[tuple[int, Tensor]]:
        """Permutations ``first`` to ``last`` of the phase in their order, each with its number."""
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
        """A permutation of the phase.

        The newest two are remembered, because a phase may be read in many short pieces.
        """
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
    """Its integers, made block by block.

    A list of all of them would take 36 bytes an index, for as long as the permutation is read.
    """
    for block in indices.split(INDICES_AT_ONCE):
        yield from block.tolist()


class RankSampler(Sampler[int]):
    """Every ``world_size``-th index of a `PruningSampler`, from number ``rank`` on.

    The order is filled up from its beginning, as in torch's ``DistributedSampler``, so that all ranks read the same
    number.  By default it is filled up to a multiple of ``world_size``.  `DynamicPruner` counts the scores of such
    repeats once.  A resumed piece is filled up with the same examples as an uninterrupted one.

    Example:
        >>> from fastprune import DynamicPruner
        >>> pruner = DynamicPruner(6, keep_fraction=0.5, method="random")
        >>> ranks = [RankSampler(pruner.sampler, rank, world_size=2) for rank in (0, 1)]
        >>> number = next(pruner.epochs(2))
        >>> sorted(index for rank in ranks for index in rank)
        [0, 1, 2, 3, 4, 5]
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
        """Do nothing, as `PruningSampler.set_epoch`."""

    def indices_from(self, position: int) -> Tensor:
        """The indices that this rank reads of the current piece after its first ``position`` examples."""
        order = self.sampler.piece_indices()
        return fill_up(order[position:], self.multiple, order)[self.rank :: self.world_size]


class _Reader(Iterator[int]):
    """One pass of a rank over a piece."""

    def __init__(self, share: RankSampler) -> None:
        self._share = share
        self._cursor = Cursor(share.sampler.progress)
        self._indices: Iterator[int] | None = None

    def __next__(self) -> int:
        if self._indices is None:
            self._indices = one_by_one(self._share.indices_from(self._cursor.begin()))
        index = next(self._indices)
        self._cursor.hand_out(self._share.world_size)
        return index

    def state_dict(self) -> dict[str, int]:
        """For torchdata's StatefulDataLoader."""
        return self._cursor.state_dict()

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """For torchdata's StatefulDataLoader."""
        self._cursor.load_state_dict(state)


def fill_up(indices: Tensor, multiple: int, order: Tensor) -> Tensor:
    """``indices``, filled up to a multiple of ``multiple``.

    The added ones come from the beginning of ``order``, which is repeated if need be.
    """
    missing = -len(indices) % multiple
    return torch.cat([indices, order.repeat(-(-missing // max(len(order), 1)))[:missing]])
