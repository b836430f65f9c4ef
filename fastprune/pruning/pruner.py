"""`DynamicPruner`: schedule, history, method and sampler put together."""

from __future__ import annotations

import logging
import operator
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate
from typing import Any, Required, TypedDict, Unpack

import torch
from torch import Tensor

from fastprune.pruning.cycle import CycleRecord, choose, churn, threshold, weight_table
from fastprune.pruning.exchange import Steps, even_share, gather_scores, together, world
from fastprune.pruning.history import History, settings_of, to_device
from fastprune.pruning.keep import KeepFraction
from fastprune.pruning.method import Method, get_method
from fastprune.pruning.sampler import Arrange, PruningSampler
from fastprune.pruning.schedule import Phase, Piece, Schedule, budget, epoch_pieces

logger = logging.getLogger(__name__)

VERSION = 3
UNREAD_BATCHES = 2
Scores = Tensor | Mapping[str, Tensor]


class PruningOptions(TypedDict, total=False):
    """What to prune and when: the keyword arguments of `DynamicPruner` that every integration takes, too."""

    keep_fraction: Required[KeepFraction]
    """Share of the examples kept after the warm-up, in (0, 1]; at 1.0 nothing changes and nothing is scored in a pass.
    Also a `LinearRamp`, a `CosineRamp`, a function of progress, or a `Budget`."""
    warmup_epochs: int | None
    """Epochs on all examples first (τ).  With 0 the first subset is random.  None, the default, is the method's own: 1,
    and 0 for ``rs2`` and ``orderdp``."""
    cycle_epochs: int | None
    """Epochs between two selections (T).  None, the default, is the method's own, 1."""
    final_share: float | None
    """Share of the epochs at the end on all examples again (InfoBatch's 1 − δ); by default the method's own."""


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

    In several processes (a torch.distributed group is initialised) every rank has a pruner of its own and makes the
    same calls.  Scores are exchanged where the kept set is chosen, so all ranks keep the same examples.

    Args:
        n: number of training examples, ``len(dataset)``.
        options: what to prune and when, see `PruningOptions`; ``keep_fraction`` is required.
        method: a registered name (``fastprune methods``) or a `Method`.
        seed: of the permutations and of random selections.
        fingerprint: optional text that identifies the data set; a state with another one is refused.
        arrange: optional order of the examples within an epoch, see `PruningSampler`.
        record_scores: True makes the scoring passes of a run with ``keep_fraction=1.0`` too, for whoever reads
            ``history``.  Such a run selects nothing, so that by default it makes none.

    Raises:
        TypeError: ``keep_fraction`` is missing, or there is no such option.
        ValueError: an argument is out of range; the message names it.

    Cost: the history's bytes an example (its card says how many, 12 for ``el2n``) and 4 for a method with weights;
    one O(n) selection a cycle.
    """

    def __init__(
        self,
        n: int,
        *,
        method: str | Method = "el2n-free",
        seed: int = 0,
        fingerprint: str | None = None,
        arrange: Arrange | None = None,
        record_scores: bool = False,
        **options: Unpack[PruningOptions],
    ) -> None:
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise ValueError(f"n is the number of training examples and must be >= 1, got {n!r}; pass len(dataset)")
        self.n = n
        self.method = get_method(method)
        self.method.check_size(n)
        self.schedule = _schedule(self.method, **options)
        constant = self.schedule.constant_size(n)
        if constant is not None and constant < n:
            self.method.check_keep(n, constant)
        self.seed = operator.index(seed)
        self.fingerprint = fingerprint
        self.record_scores = record_scores
        if self.schedule.warmup_epochs < self.method.least_warmup and not self.schedule.keeps_all:
            logger.warning(
                "method %r measures changes between epochs: after warmup_epochs=%d it tells no two apart; set it "
                "to %d or more",
                self.method.name,
                self.schedule.warmup_epochs,
                self.method.least_warmup,
            )
        self.sampler = PruningSampler(n, seed=self.seed, arrange=arrange)
        self._before: list[int] = []
        self.reset()

    def reset(self, seed: int | None = None) -> None:
        """Forget every score, the kept set and the position, as before a run; optionally take a new seed."""
        if seed is not None:
            self.seed = self.sampler.seed = operator.index(seed)
        self.history = History(self.n, self.method.statistics)
        self.sampler.keep(None, 0)
        self.sampler.epoch = 0
        self.sampler.rewind()
        self.cycle = CycleRecord()
        self.examples_before = 0
        self._weights: Tensor | None = None
        self._unread_batches = 0
        self._trained: int | None = None
        self._scored_for: int | None = None
        self._score_seconds = 0.0
        self._place: dict[str, int] | None = None
        self._steps = Steps(self.n, 0)

    # --- the run as a stream -------------------------------------------------------------------

    def phases(self, epochs: int) -> list[Phase]:
        """The phases of a run of ``epochs`` user epochs.

        Raises:
            ValueError: the method cannot keep as many as one of them asks for.
        """
        phases = self.schedule.phases(self.n, epochs)
        for size in {phase.size for phase in phases if phase.size < self.n}:
            self.method.check_keep(self.n, size)
        return phases

    def total_examples(self, epochs: int) -> int:
        """Training examples of a plain run of ``epochs`` user epochs: τN + Σ k_t."""
        return budget(self.phases(epochs))

    def total_batches(self, epochs: int, batch_size: int, *, drop_last: bool = False) -> int:
        """Batches of a plain run: the length of its LR schedule.

        Args:
            batch_size: the loader's; of several processes, all of them together.
            drop_last: the loader's.  False: the last batch of an epoch may be short.  True: it is left out.

        Raises:
            ValueError: ``batch_size`` is no whole number >= 1.
        """
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number >= 1, got {batch_size!r}; pass the loader's")
        lengths = [len(piece) for piece in epoch_pieces(self.phases(epochs))]
        return sum(length // batch_size if drop_last else -(-length // batch_size) for length in lengths)

    def epochs(self, epochs: int) -> Iterator[int]:
        """Yield 0, 1, … ``epochs`` − 1; within each, iterate the loader once.

        Before an epoch that starts a cycle the kept set is chosen.  After ``load_state_dict`` it goes on in
        the epoch that was interrupted, behind the examples already read.  For a bitwise equal rest of the run
        give the `DataLoader` a ``generator`` of its own (it draws a number from the global one whenever an
        iteration starts), and call ``observe`` in every step (workers read ahead of it).

        A run that was interrupted goes on likewise when ``epochs`` is called again.  One that has ended yields nothing
        more; ``reset()`` starts another.  With ``drop_last`` an epoch whose end was saved from within it is handed
        out once more, empty: the pruner cannot know that nothing of it was left to read.

        Raises:
            RuntimeError: the method needs a scoring pass that ``rescore`` has not been given.
            ValueError: the run is in a later epoch than ``epochs``, or with so many its epochs so far would have been
                others.
        """
        pieces = epoch_pieces(self.phases(epochs))
        first = self.sampler.epoch
        if first >= len(pieces):
            raise ValueError(
                f"epochs is {epochs}, but the run is in epoch {first} already; pass the number it was started with"
            )
        self.plan(pieces)
        self.sampler.start_at(self.position)
        # An epoch read to its end but not yet scored is handed out once more, empty: its scoring pass is due.
        if 0 < len(self.sampler) <= self.position and not self.wants_scores:
            first += 1
        for number in range(first, len(self.sampler.pieces)):
            self.start_piece(number)
            yield number
            self._end_piece()
        self.exchange()

    def plan(self, pieces: list[Piece]) -> None:
        """Read the stream in these pieces from now on.

        Raises:
            ValueError: the piece in which the run is would have been another one.
        """
        _check_place(self._place, pieces, self.sampler.epoch)
        self.sampler.pieces = pieces
        self._before = [0, *accumulate(map(len, pieces))]

    def start_piece(self, number: int) -> None:
        """Get ready to iterate piece ``number``: choose the kept set if it starts a phase; idempotent."""
        self.exchange()
        pieces = self.sampler.pieces
        phase = pieces[number].phase
        if phase.index == 0:
            self.sampler.keep(None, 0)
        elif phase.index != self.sampler.kept_phase:
            self._enter(phase)
        if number != self.sampler.epoch:
            # A loop that observes is counted by what it observes, before its first step, too.
            self._trained = None if self._trained is None else 0
            self.sampler.move_to(number)
        self._steps = Steps(self.n, self._taken_in)
        self._place = _place_of(pieces[number], self._before[number])
        self.examples_before = self._place["before"]

    @property
    def position(self) -> int:
        """Examples of the current piece that training has taken in, on all ranks together.

        Counted by ``observe``; in a run that never calls it, what the sampler has handed out, which loaders with
        workers and accelerate's look-ahead draw before it is trained on.
        """
        return self.sampler.yielded if self._trained is None else self._trained

    @position.setter
    def position(self, examples: int) -> None:
        """For loops that skip what was trained on before themselves."""
        self._trained = examples
        if not self._steps.unsent:
            self._steps = Steps(self.n, examples)

    # --- scores --------------------------------------------------------------------------------

    def observe(self, index: Tensor, scores: Scores | None = None) -> None:
        """Take note of a training step: which examples it was, and the scores its logits gave.

        Call it in every step, once per example: then a resumed run goes on behind the last step, however far ahead a
        loader has read.  Methods that do not learn from the steps ignore the scores.

        Args:
            index: (B,) positions of the batch's examples in the data set; on several processes this rank's.
            scores: (B,) tensor, or a dict of them by metric; never differentiated.

        Raises:
            KeyError, ValueError, IndexError: as `History.check`.
            RuntimeError: the method weights losses, and ``weights`` has not been asked for.

        Cost: a few indexed writes on the scores' device, no synchronisation on CUDA.
        """
        if self._weights is not None:
            self._unread_batches += 1
            if self._unread_batches > UNREAD_BATCHES:
                raise RuntimeError(
                    f"method {self.method.name!r} weights losses, but the loop does not: multiply the losses by "
                    "pruner.weights(index), or take pruner.mean_loss(losses, index)"
                )
        world_size = world()[1]
        before = self._taken_in
        if self.method.observes:
            if scores is None:
                raise ValueError(f"method {self.method.name!r} reads {list(self.method.reads)}: pass them as scores")
            by_metric = self._by_metric(scores)
            if world_size == 1:
                self.history.update(index, by_metric, self.sampler.piece.epoch_at(before))
            else:
                self.history.check(index, by_metric)
                self._steps.record(index, {metric: by_metric[metric] for metric in self.method.reads})
        self._trained = min(before + len(index) * world_size, max(len(self.sampler), before))

    def exchange(self) -> None:
        """Bring the scores of all processes together; with one process there is nothing to do.

        A collective call, made by itself whenever a piece begins or ends.  Call it on every rank before
        ``state_dict`` in the middle of an epoch.
        """
        if world()[1] == 1 or not self.method.observes or not self.sampler.pieces:
            return
        piece = self.sampler.piece
        for at, batch in self._steps.replay(self.sampler.piece_indices, self.method.reads):
            self.history.update(*batch, piece.epoch_at(at))

    @property
    def wants_scores(self) -> bool:
        """True when the current piece is the last before a cycle that needs a scoring pass."""
        following = self.sampler.epoch + 1
        return following < len(self.sampler.pieces) and self.needs_pass(self.sampler.pieces[following].phase)

    def needs_pass(self, phase: Phase) -> bool:
        """Whether selecting for ``phase`` still needs a scoring pass."""
        done = phase.index <= self.sampler.kept_phase or phase.index == self._scored_for
        useless = phase.size == self.n and not (self.schedule.keeps_all and self.record_scores)
        if phase.first_epoch == 0 or useless or done:
            return False
        return self.method.scoring_pass(self.history, phase.index) is not None

    def rescore(self, score_fn: Callable[[Tensor], Scores]) -> None:
        """Score the examples the method asks for (all, unless it says otherwise) for the next cycle.

        Args:
            score_fn: called once with the int64 indices to score, returns their scores in that order
                (a tensor, or a dict by metric).  `fastprune.score_dataset` does the pass for a model.  On several
                processes each is given its share, all shares of one length.

        Raises:
            RuntimeError: it raised on another process; on that one its own error.
        """
        self.exchange()
        start = time.perf_counter()
        kept_phase = self.sampler.kept_phase
        epoch = max(
            (p.phase.first_epoch + p.phase.epochs - 1 for p in self.sampler.pieces if p.phase.index <= kept_phase),
            default=-1,
        )
        index = self._to_score(kept_phase + 1)
        if len(index):
            if world()[1] == 1:
                self.history.update(index, self._by_metric(score_fn(index)), epoch)
            else:
                share = even_share(index)
                with together("score_fn"):
                    scores = self._by_metric(score_fn(share))
                    self.history.check(share, scores)
                self.history.update(*gather_scores(share, scores, self.method.reads), epoch)
        self._scored_for = kept_phase + 1
        self._score_seconds = time.perf_counter() - start

    @property
    def expects_pass(self) -> bool:
        """Whether a scoring pass is still to come in this run."""
        return any(self.needs_pass(piece.phase) for piece in self.sampler.pieces[self.sampler.epoch :])

    def try_scores(self, score_fn: Callable[[Tensor], tuple[Tensor, Scores]]) -> None:
        """Have a batch scored and forget its scores, so that what cannot be scored fails before the run.

        Nothing is done where the rest of the run reads no scores; where keep_fraction is 1.0 it does with
        ``record_scores`` alone.  On several processes a collective call.

        Args:
            score_fn: called once with the indices of which this process scores its share; returns those that it chose
                for the trial, and their scores as in ``rescore``.

        Raises:
            KeyError, ValueError: as `History.check`.
            RuntimeError: it raised on another process; on that one its own error.
        """
        reads_none = self.schedule.keeps_all and not self.record_scores
        if reads_none or not (self.method.observes or self.expects_pass):
            return
        with together("the trial of score_fn"):
            index, scores = score_fn(even_share(torch.arange(self.n, device="cpu")))
            self.history.check(index, self._by_metric(scores))

    # --- weights -------------------------------------------------------------------------------

    def weights(self, index: Tensor) -> Tensor | None:
        """How much the loss of each example of a batch counts, fp32 on the device of ``index``; None if all alike.

        The weighted loss of a batch is the *mean* of weight · loss over its examples, not divided by the sum of
        weights.
        """
        self._unread_batches = 0
        if self._weights is None:
            return None
        if self._weights.device != index.device:
            self._weights = to_device(self._weights, index.device)
        return self._weights[index]

    def mean_loss(self, losses: Tensor, index: Tensor) -> Tensor:
        """The mean of a batch's losses, (B,), weighted where the method weights them; differentiable."""
        weights = self.weights(index)
        return losses.mean() if weights is None else (losses * to_device(weights, losses.device)).mean()

    # --- what the newest cycle did -------------------------------------------------------------

    @property
    def kept_indices(self) -> Tensor:
        """The examples now trained on: int64, ascending."""
        kept = self.sampler.indices
        return torch.arange(self.n, device="cpu") if kept is None else kept.clone()

    def log(self) -> dict[str, float]:
        """The newest cycle under the names of the project's log keys."""
        return {
            "prune/keep_fraction": self.cycle.kept / self.n if self.cycle.kept else 1.0,
            "prune/threshold": self.cycle.threshold,
            "prune/churn": self.cycle.churn,
            "prune/score_seconds": self.cycle.score_seconds,
            "prune/select_seconds": self.cycle.select_seconds,
            "prune/examples_seen": float(self.examples_before + self.position),
        }

    # --- state ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything a run needs to go on exactly: history, kept set, position; the same on every rank.

        Raises:
            RuntimeError: other processes have scores that this one has not seen; call ``exchange`` on all first.
        """
        if self._steps.unsent:
            raise RuntimeError(
                f"{len(self._steps.unsent)} steps' scores have not been exchanged between the processes yet: call "
                "pruner.exchange() on every rank, then state_dict()"
            )
        return {
            **self._identity,
            "fingerprint": self.fingerprint,
            "cycle": asdict(self.cycle),
            "scored_for": self._scored_for,
            "weights": None if self._weights is None else self._weights.cpu().clone(),
            "trained": self._trained,
            "place": self._place,
            "history": self.history.state_dict(),
            "sampler": {**self.sampler.snapshot(), "yielded": self.position},
        }

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Refuse the state of something else.

        Raises:
            ValueError: the state belongs to another data set, method, schedule or version, or to a run whose epochs
                were planned otherwise.
        """
        for key, value in self._identity.items():
            if state.get(key) != value:
                raise ValueError(f"the checkpoint has {key} = {state.get(key)!r}, this run has {value!r}")
        theirs = state.get("fingerprint")
        if None not in (theirs, self.fingerprint) and theirs != self.fingerprint:
            raise ValueError(
                f"the checkpoint belongs to another data set: its fingerprint is {theirs!r}, this one's is "
                f"{self.fingerprint!r}; resume with the data it was made with"
            )
        self.history.check_state(state["history"])
        self.sampler.check_state(state["sampler"])
        _check_place(state["place"], self.sampler.pieces, state["sampler"]["epoch"])

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict()``; raises as `check_state`, before anything is changed."""
        self.check_state(state)
        self.sampler.restore(state["sampler"])
        self.history.load_state_dict(state["history"])
        self.cycle = CycleRecord(**state["cycle"])
        weights = state["weights"]
        self._weights = None if weights is None else weights.clone()
        self._unread_batches = 0
        self._trained = state["trained"]
        self._place = state["place"]
        self._scored_for = state["scored_for"]
        self._steps = Steps(self.n, self._taken_in)

    # --- inside --------------------------------------------------------------------------------

    @property
    def _identity(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "n": self.n,
            "method": self.method.name,
            "method_settings": settings_of(self.method),
            "schedule": self.schedule.describe(),
        }

    @property
    def _taken_in(self) -> int:
        """As ``position``, but for examples that were handed out and not observed."""
        return self.sampler.started_at if self._trained is None else self._trained

    def _by_metric(self, scores: Scores) -> Mapping[str, Tensor]:
        if isinstance(scores, Mapping):
            return scores
        if len(self.method.reads) > 1:
            raise TypeError(f"method {self.method.name!r} reads {list(self.method.reads)}: pass a dict of them")
        return dict.fromkeys(self.method.reads, scores)

    def _end_piece(self) -> None:
        """The loop is through with the piece, even if it left out the last examples (``drop_last``)."""
        self.sampler.start_at(len(self.sampler))
        if self._trained is not None:
            self._trained = len(self.sampler)

    def _to_score(self, cycle: int) -> Tensor:
        everything = torch.arange(self.n, device="cpu")
        kept = self.sampler.indices
        if kept is None or self.method.scoring_pass(self.history, cycle) != "pruned":
            return everything
        pruned = torch.ones(self.n, dtype=torch.bool, device="cpu")
        pruned[kept] = False
        return everything[pruned]

    def _enter(self, phase: Phase) -> None:
        if self.needs_pass(phase):
            raise RuntimeError(
                f"method {self.method.name!r} needs a scoring pass before epoch {phase.first_epoch}: after the "
                "loop over the loader, `if pruner.wants_scores: pruner.rescore(score_fn)`"
            )
        start = time.perf_counter()
        before = self.sampler.indices
        selection = choose(self.method, self.history, phase, self.seed)
        self.sampler.keep(selection.indices, phase.index)
        self._weights = weight_table(selection, self.n)
        self._unread_batches = 0
        self.cycle = CycleRecord(
            epoch=phase.first_epoch,
            kept=phase.size,
            threshold=threshold(self.method, self.history, selection),
            churn=churn(before, selection.indices, self.n),
            score_seconds=self._score_seconds,
            select_seconds=time.perf_counter() - start,
        )
        self._score_seconds = 0.0


def _place_of(piece: Piece, before: int) -> dict[str, int]:
    """What a piece must have in common with that of another plan for a run to go on in it."""
    phase = piece.phase
    place = {"cycle": phase.index, "first_epoch": phase.first_epoch, "kept": phase.size}
    return {**place, "start": piece.start, "length": len(piece), "before": before}


def _check_place(place: Mapping[str, int] | None, pieces: Sequence[Piece], number: int) -> None:
    if place is None or number >= len(pieces):
        return
    planned = _place_of(pieces[number], sum(map(len, pieces[:number])))
    if place != planned:
        raise ValueError(
            f"the run is in cycle {place['cycle']}, which keeps {place['kept']} examples, {place['before']} examples "
            f"from its start; planned like this it would be in cycle {planned['cycle']} with {planned['kept']}, "
            f"{planned['before']} from its start: go on with the number of epochs (and steps) that it was started with"
        )


def _schedule(method: Method, **options: Unpack[PruningOptions]) -> Schedule:
    known = list(PruningOptions.__annotations__)
    unknown = [name for name in options if name not in known]
    if unknown:
        raise TypeError(f"there is no option {unknown[0]!r}; what to prune and when is said with {', '.join(known)}")
    if "keep_fraction" not in options:
        raise TypeError("keep_fraction is required: the share of the examples kept after the warm-up, such as 0.5")
    chosen = options.get("final_share")
    share = method.final_share if chosen is None else chosen
    warmup, cycle = options.get("warmup_epochs"), options.get("cycle_epochs")
    warmup = method.warmup_epochs if warmup is None else warmup
    cycle = method.cycle_epochs if cycle is None else cycle
    keep = options["keep_fraction"]
    schedule = Schedule(keep, warmup, cycle, share)
    return Schedule(1.0, warmup, cycle) if method.keeps_all else schedule
