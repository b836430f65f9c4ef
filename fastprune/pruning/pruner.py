"""`DynamicPruner`: schedule, history, method and sampler put together."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import torch
from torch import Tensor

from fastprune.pruning.history import History
from fastprune.pruning.method import Method, get_method
from fastprune.pruning.sampler import Arrange, PruningSampler
from fastprune.pruning.schedule import Phase, Piece, Schedule, budget, epoch_pieces
from fastprune.selection import Selection, random

VERSION = 1
Scores = Tensor | Mapping[str, Tensor]


@dataclass
class CycleRecord:
    """What the newest selection did; times in seconds."""

    epoch: int = 0
    kept: int = 0
    threshold: float = float("nan")
    churn: float = 0.0
    score_seconds: float = 0.0
    select_seconds: float = 0.0


class DynamicPruner:
    """Trains a run on everything for τ epochs, then on the examples that still teach something.

    In a plain loop::

        pruner = fastprune.DynamicPruner(len(train), keep_fraction=0.5, warmup_epochs=1)
        loader = DataLoader(fastprune.with_index(train), sampler=pruner.sampler, batch_size=32)
        for epoch in pruner.epochs(10):
            for batch in loader:
                loss, s = fastprune.cross_entropy(model(batch["x"]), batch["y"], return_scores="el2n")
                pruner.observe(batch["index"], s)
                ...

    Args:
        n: number of training examples, ``len(dataset)``.
        keep_fraction: share of the examples kept after the warm-up, in (0, 1].  At 1.0 nothing changes.
        warmup_epochs: epochs on all examples first (τ).  With 0 the first subset is random.
        cycle_epochs: epochs between two selections (T).
        method: a registered name (``fastprune methods``) or a `Method`.
        seed: of the permutations and of random selections.
        fingerprint: optional text that identifies the data set; a state with another one is refused.
        arrange: optional order of the examples within an epoch, see `PruningSampler`.

    Cost: the history's bytes an example (12 for the built-in methods), one O(n) selection a cycle.
    """

    def __init__(
        self,
        n: int,
        *,
        keep_fraction: float,
        warmup_epochs: int = 1,
        cycle_epochs: int = 1,
        method: str | Method = "el2n-free",
        seed: int = 0,
        fingerprint: str | None = None,
        arrange: Arrange | None = None,
    ) -> None:
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise ValueError(f"n is the number of training examples and must be >= 1, got {n!r}; pass len(dataset)")
        self.n = n
        self.method = get_method(method)
        self.schedule = Schedule(keep_fraction, warmup_epochs, cycle_epochs)
        if self.method.keeps_all:
            self.schedule = Schedule(1.0, warmup_epochs, cycle_epochs)
        self.seed = seed
        self.fingerprint = fingerprint
        self.sampler = PruningSampler(n, seed=seed, arrange=arrange)
        self.reset()

    def reset(self, seed: int | None = None) -> None:
        """Forget every score, the kept set and the position, as before a run; optionally take a new seed."""
        if seed is not None:
            self.seed = self.sampler.seed = seed
        self.history = History(self.n, self.method.reads, self.method.smoothing)
        self.sampler.keep(None, 0)
        self.sampler.epoch = 0
        self.sampler.rewind()
        self.cycle = CycleRecord()
        self.examples_before = 0
        self._scored_for: int | None = None
        self._score_seconds = 0.0

    # --- the run as a stream -------------------------------------------------------------------

    def phases(self, epochs: int) -> list[Phase]:
        """The phases of a run of ``epochs`` user epochs."""
        return self.schedule.phases(self.n, epochs)

    def total_examples(self, epochs: int) -> int:
        """Training examples of a plain run of ``epochs`` user epochs: τN + Σ k_t."""
        return budget(self.phases(epochs))

    def total_batches(self, epochs: int, batch_size: int) -> int:
        """Batches of a plain run (the last of an epoch may be short): the length of its LR schedule."""
        return sum(-(-len(piece) // batch_size) for piece in epoch_pieces(self.phases(epochs)))

    def epochs(self, epochs: int) -> Iterator[int]:
        """Yield 0, 1, … ``epochs`` − 1; within each, iterate the loader once.

        Before an epoch that starts a cycle the kept set is chosen.  After ``load_state_dict`` it goes on in
        the epoch that was interrupted, behind the examples already read.  For a bitwise equal rest of the run
        give the `DataLoader` a ``generator`` of its own (it draws a number from the global one whenever an
        iteration starts) and no workers (they read ahead).

        A run that has ended yields nothing more; ``reset()`` starts another.

        Raises:
            RuntimeError: the method needs a scoring pass that ``rescore`` has not been given.
            ValueError: the loaded state is of a later epoch than ``epochs``.
        """
        pieces = epoch_pieces(self.phases(epochs))
        first = self.sampler.epoch
        if first >= len(pieces):
            raise ValueError(
                f"epochs is {epochs}, but the run is in epoch {first} already; pass the number it was started with"
            )
        self.plan(pieces)
        # An epoch read to its end but not yet scored is handed out once more, empty: its scoring pass is due.
        if 0 < len(self.sampler) <= self.sampler.yielded and not self.wants_scores:
            first += 1
        for number in range(first, len(self.sampler.pieces)):
            self.start_piece(number)
            yield number

    def plan(self, pieces: list[Piece]) -> None:
        """Read the stream in these pieces from now on."""
        self.sampler.pieces = pieces

    def start_piece(self, number: int) -> None:
        """Get ready to iterate piece ``number``: choose the kept set if it starts a phase; idempotent."""
        pieces = self.sampler.pieces
        phase = pieces[number].phase
        if phase.index == 0:
            self.sampler.keep(None, 0)
        elif phase.index != self.sampler.kept_phase:
            self._enter(phase)
        self.sampler.set_epoch(number)
        self.examples_before = sum(len(piece) for piece in pieces[:number])

    # --- scores --------------------------------------------------------------------------------

    def observe(self, index: Tensor, scores: Scores) -> None:
        """Record scores of the training step; does nothing for methods that do not read them.

        Args:
            index: (B,) positions of the batch's examples in the data set.
            scores: (B,) tensor, or a dict of them by metric; never differentiated.

        Cost: a few indexed writes on the scores' device, no synchronisation on CUDA.
        """
        if self.method.source == "step":
            self.history.update(index, self._by_metric(scores), self._epoch)

    @property
    def wants_scores(self) -> bool:
        """True when the current piece is the last before a cycle that needs a scoring pass."""
        following = self.sampler.epoch + 1
        return following < len(self.sampler.pieces) and self.needs_pass(self.sampler.pieces[following].phase)

    def needs_pass(self, phase: Phase) -> bool:
        """Whether selecting for ``phase`` still needs a scoring pass."""
        if phase.first_epoch == 0 or phase.index <= self.sampler.kept_phase or phase.index == self._scored_for:
            return False
        return self.method.source == "pass" or (self.method.source == "once" and self.history.empty)

    def rescore(self, score_fn: Callable[[Tensor], Scores]) -> None:
        """Score all examples for the next cycle.

        Args:
            score_fn: called once with the int64 indices to score, returns their scores in that order
                (a tensor, or a dict by metric).  `fastprune.score_dataset` does the pass for a model.
        """
        start = time.perf_counter()
        kept_phase = self.sampler.kept_phase
        epoch = max(
            (p.phase.first_epoch + p.phase.epochs - 1 for p in self.sampler.pieces if p.phase.index <= kept_phase),
            default=-1,
        )
        index = torch.arange(self.n)
        self.history.update(index, self._by_metric(score_fn(index)), epoch)
        self._scored_for = kept_phase + 1
        self._score_seconds = time.perf_counter() - start

    # --- what the newest cycle did -------------------------------------------------------------

    @property
    def kept_indices(self) -> Tensor:
        """The examples now trained on: int64, ascending."""
        kept = self.sampler.indices
        return torch.arange(self.n) if kept is None else kept.clone()

    def log(self) -> dict[str, float]:
        """The newest cycle under the names of the project's log keys."""
        return {
            "prune/keep_fraction": self.cycle.kept / self.n if self.cycle.kept else 1.0,
            "prune/threshold": self.cycle.threshold,
            "prune/churn": self.cycle.churn,
            "prune/score_seconds": self.cycle.score_seconds,
            "prune/select_seconds": self.cycle.select_seconds,
            "prune/examples_seen": float(self.examples_before + self.sampler.yielded),
        }

    # --- state ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything a run needs to go on exactly: history, kept set, position."""
        return {
            "version": VERSION,
            "n": self.n,
            "fingerprint": self.fingerprint,
            "method": self.method.name,
            "method_settings": self._method_settings,
            "schedule": asdict(self.schedule),
            "cycle": asdict(self.cycle),
            "scored_for": self._scored_for,
            "history": self.history.state_dict(),
            "sampler": self.sampler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict()``.

        Raises:
            ValueError: the state belongs to another data set, method or schedule; nothing is changed then.
        """
        mine = {
            "version": VERSION,
            "n": self.n,
            "method": self.method.name,
            "method_settings": self._method_settings,
            "schedule": asdict(self.schedule),
        }
        for key, value in mine.items():
            if state.get(key) != value:
                raise ValueError(f"the checkpoint has {key} = {state.get(key)!r}, this run has {value!r}")
        theirs = state.get("fingerprint")
        if None not in (theirs, self.fingerprint) and theirs != self.fingerprint:
            raise ValueError(
                f"the checkpoint belongs to another data set: its fingerprint is {theirs!r}, this one's is "
                f"{self.fingerprint!r}; resume with the data it was made with"
            )
        self.history.check_state(state["history"])
        self.sampler.load_state_dict(state["sampler"])
        self.history.load_state_dict(state["history"])
        self.cycle = CycleRecord(**state["cycle"])
        self._scored_for = state["scored_for"]

    # --- inside --------------------------------------------------------------------------------

    @property
    def _method_settings(self) -> str:
        # An object without a repr of its own would print its address, which no other process shares.
        return repr(self.method) if is_dataclass(self.method) else self.method.name

    @property
    def _epoch(self) -> int:
        piece = self.sampler.piece
        newest = piece.start + max(0, self.sampler.yielded - 1)
        last = piece.phase.first_epoch + piece.phase.epochs - 1
        return min(piece.phase.first_epoch + newest // piece.phase.size, last)

    def _by_metric(self, scores: Scores) -> Mapping[str, Tensor]:
        if isinstance(scores, Mapping):
            return scores
        if len(self.method.reads) > 1:
            raise TypeError(f"method {self.method.name!r} reads {list(self.method.reads)}: pass a dict of them")
        return dict.fromkeys(self.method.reads, scores)

    def _enter(self, phase: Phase) -> None:
        if self.needs_pass(phase):
            raise RuntimeError(
                f"method {self.method.name!r} needs a scoring pass before epoch {phase.first_epoch}: after the "
                "loop over the loader, `if pruner.wants_scores: pruner.rescore(score_fn)`"
            )
        start = time.perf_counter()
        before = self.sampler.indices
        selection = self._select(phase)
        self.sampler.keep(selection.indices, phase.index)
        self.cycle = CycleRecord(
            epoch=phase.first_epoch,
            kept=phase.size,
            threshold=self._threshold(selection),
            churn=self._churn(before, selection.indices),
            score_seconds=self._score_seconds,
            select_seconds=time.perf_counter() - start,
        )
        self._score_seconds = 0.0

    def _select(self, phase: Phase) -> Selection:
        if phase.size == self.n:
            return Selection(torch.arange(self.n), None)
        if self.method.reads and self.history.empty and phase.first_epoch == 0:
            return random(self.n, phase.size, seed=self.seed, round=phase.index)
        if self.method.reads and self.history.empty:
            raise RuntimeError(
                f"method {self.method.name!r} has seen no score when epoch {phase.first_epoch} starts: call "
                "pruner.observe(index, scores) in the training step"
            )
        selection = self.method.select(self.history, phase.size, cycle=phase.index, seed=self.seed)
        if selection.weights is not None:
            raise ValueError(
                f"method {self.method.name!r} returned weights, but losses are not weighted yet: return "
                "Selection(indices, None)"
            )
        return Selection(selection.indices.cpu(), None)

    def _threshold(self, selection: Selection) -> float:
        if len(self.method.reads) != 1 or self.history.empty:
            return float("nan")
        value = self.history.value(self.method.reads[0])
        return float(value[selection.indices.to(value.device)].min())

    def _churn(self, before: Tensor | None, after: Tensor) -> float:
        """Share of the kept set that was not in the one before (all examples count as kept in warm-up)."""
        if before is None:
            return 0.0
        was = torch.zeros(self.n, dtype=torch.bool)
        was[before] = True
        return 1.0 - float(was[after].float().mean())
