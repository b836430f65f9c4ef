"""The protocol of a pruned run, which every training loop goes through.

1. Plan: the pieces in which the loop reads the run's examples.  A framework calls `Driver.begin` for a new run and
   `Driver.resume` for one from a checkpoint.  A plain loop calls `Driver.go_on` for both.
2. `Driver.enter` or `Driver.enter_next` before each piece.  If the piece begins a phase, the scoring pass is made if
   one is due, and the kept set is chosen.
3. `Driver.take_in` after each training step, or after each micro-batch of a step.  A loop that knows the scores
   before the step ends, or that counts batches, calls `Driver.record` and `Driver.advance` in its place.
4. `Driver.leave` after each piece.

`fastprune.pruning.pruner` calls these for a plain loop.  The adapters of frameworks call them from their hooks.  They
read `Progress`, which says where the run is, but only the driver writes it.
"""

from __future__ import annotations

import logging
import operator
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fastprune.platform.collectives import together, world
from fastprune.pruning.cycle import CycleRecord, choose, churn, facts, threshold
from fastprune.pruning.exchange import Steps, even_share, gather_scores
from fastprune.pruning.listener import Listener
from fastprune.pruning.method import Method
from fastprune.pruning.progress import Progress
from fastprune.pruning.sampler import Arrange, PruningSampler
from fastprune.pruning.schedule import Phase, Piece, Schedule
from fastprune.pruning.state import checked, load_state, state_of
from fastprune.pruning.state_versions import converted
from fastprune.pruning.weighting import Weights, weight_table

logger = logging.getLogger(__name__)

Scores = Tensor | Mapping[str, Tensor]
ScoreIndices = Callable[[Tensor], Scores]
"""Gives the scores of the examples with these indices, in that order.

It takes int64 indices (B,), and returns a tensor (B,) or a dict of such tensors by metric.
"""


class Driver:
    """One run of pruned training: its progress, history, order and weights.

    Args:
        n: number of training examples.
        method: chooses the kept sets.
        schedule: says when to choose a kept set, and how many examples to keep.
        seed: seed of the order and of random selections.
        fingerprint: identifies the data set.  A state with another fingerprint is refused.
        arrange: rearranges the order of an epoch, see `PruningSampler`.
        groups: examples of like length for a budget of tokens, see `by_length`.
        record_scores: whether scoring passes are also made in a run that keeps every example.

    Attributes:
        listener: is told of scoring passes and selections.

    Example:
        What `DynamicPruner` calls in a loop of two epochs:

        >>> from fastprune.pruning import get_method
        >>> from fastprune.pruning.schedule import epoch_pieces
        >>> driver = Driver(6, get_method("random"), Schedule(keep_fraction=0.5))
        >>> driver.begin(epoch_pieces(driver.phases(2)))
        >>> first = list(driver.sampler)
        >>> driver.leave()
        >>> driver.enter_next()
        >>> len(first), len(list(driver.sampler))
        (6, 3)
    """

    def __init__(
        self,
        n: int,
        method: Method,
        schedule: Schedule,
        *,
        seed: int = 0,
        fingerprint: str | None = None,
        arrange: Arrange | None = None,
        groups: Sequence[Tensor] | None = None,
        record_scores: bool = False,
    ) -> None:
        self.n = n
        self.method = method
        self.schedule = schedule
        self.fingerprint = fingerprint
        self.groups = groups
        self.record_scores = record_scores
        self.listener = Listener()
        self.progress = Progress()
        self.sampler = PruningSampler(n, seed=seed, arrange=arrange, progress=self.progress)
        self.restart()

    def restart(self, seed: int | None = None) -> None:
        """Forget every score, the kept set and the position.  The plan stays.

        Args:
            seed: a new seed.  None keeps the present one.
        """
        if seed is not None:
            self.sampler.seed = operator.index(seed)
        self.progress.restart()
        self.sampler.keep(None)
        self.history = self.method.new_history(self.n)
        self.weights = Weights()
        self.steps = Steps(self.n)
        self.cycle = CycleRecord()
        self._score_seconds = 0.0

    def phases(self, epochs: int) -> list[Phase]:
        """The phases of a run of ``epochs`` user epochs.

        Raises:
            ValueError: the method cannot keep as many examples as one of the phases asks for.
        """
        phases = self.schedule.phases(self.n, epochs)
        for size in {phase.size for phase in phases if phase.size < self.n}:
            self.method.check_keep(self.n, size)
        return phases

    # --- plan ----------------------------------------------------------------------------------

    def plan(self, pieces: Sequence[Piece]) -> None:
        """Read the run's examples in these pieces from now on.

        Raises:
            ValueError: the new pieces would change the piece that the run is in now.
        """
        self.progress.plan(pieces)

    def begin(self, pieces: Sequence[Piece], seed: int | None = None) -> None:
        """Begin a run in a framework: forget the previous run, set the plan, and enter the first piece.

        Args:
            pieces: all pieces of the run.
            seed: a new seed.  None keeps the present one.
        """
        self.restart(seed)
        self.plan(pieces)
        self.enter(0)
        self.progress.count_steps()

    def resume(self, pieces: Sequence[Piece], state: Mapping[str, Any], seed: int | None = None) -> None:
        """Resume a run in a framework: forget the previous run, set the plan, and move to the saved position.

        Args:
            pieces: all pieces of the run.
            state: what `state_dict` returned.
            seed: this run's seed.  None takes the state's.

        Raises:
            ValueError: see `load_state_dict`.
        """
        state = converted(state)
        self.restart(state.get("seed") if seed is None else seed)
        self.plan(pieces)
        self.load_state_dict(state)
        self.progress.count_steps()

    def go_on(self, pieces: Sequence[Piece]) -> range:
        """Start or continue a plain loop at its position.  The sampler skips the examples that it has handed out.

        Args:
            pieces: all pieces of the run.

        Returns:
            The numbers of the pieces to enter, in their order.  If the scoring pass after a finished piece is still
            due, that piece comes first, and it yields no examples.

        Raises:
            ValueError: see `plan`.
        """
        self.plan(pieces)
        self.progress.begin_at(self.progress.position)
        number = self.progress.piece_number if self.wants_scores else self.progress.next_number
        return range(number, len(pieces))

    def move_to(self, number: int, position: int) -> None:
        """Move to the position of a framework that counts its own steps and itself skips what was trained on.

        Args:
            number: number of the piece.  The loader reads the piece from its start.
            position: position in the piece.  For callbacks, user epochs that end there or earlier are closed.
        """
        self.progress.move_to(number, position)
        self.progress.epochs_closed = self.progress.epochs_completed

    # --- enter, take in, leave -----------------------------------------------------------------

    def enter(self, number: int, score: ScoreIndices | None = None) -> None:
        """Get ready to read piece ``number``, and choose the kept set if the piece begins a phase.

        Calling it again for the same piece changes nothing.

        Args:
            number: number of the piece.
            score: makes the scoring pass if one is due, see `rescore`.

        Raises:
            RuntimeError: a pass is due and has not been made.
        """
        phase = self.progress.pieces[number].phase
        if score is not None and self.needs_pass(phase):
            self.rescore(score)
        self.exchange()
        if phase.index == 0:
            self.sampler.keep(None)
            self.progress.chosen_for = 0
        elif phase.index != self.progress.chosen_for:
            self.choose_for(phase)
        self.progress.enter(number)
        self.steps = Steps(self.n)

    def enter_next(self, score: ScoreIndices | None = None) -> None:
        """Enter the current piece, or the following one if the current piece has been read to its end.

        Args and errors are those of `enter`.
        """
        self.enter(self.progress.next_number, score)

    def take_in(self, index: Tensor, scores: Scores | None = None) -> None:
        """Record the scores of a training step on these examples of this rank, and count the step.

        Args:
            index: (B,) which examples the step trained on.
            scores: their scores, if the method observes.  None then says that the batch was not trained on.

        Raises:
            KeyError, ValueError, IndexError: see `History.check`.
            RuntimeError: the loop does not use the method's weights.
        """
        if scores is not None or not self.method.observes:
            self.record(index, scores)
        self.progress.take_in(len(index) * world()[1])

    def record(self, index: Tensor, scores: Scores | None) -> None:
        """Record the scores of a step without counting it, for a loop that knows them before the step has ended.

        Args and errors are those of `take_in`.
        """
        self.weights.expect_use(self.method.name)
        if not self.method.observes:
            return
        assert scores is not None
        by_metric = self._by_metric(scores)
        if world()[1] == 1:
            self.history.update(index, by_metric, self.progress.piece.epoch_at(self.progress.observed_to))
        else:
            self.history.check(index, by_metric)
            self.steps.record(index, {metric: by_metric[metric] for metric in self.method.reads})

    def advance(self, position: int) -> None:
        """Set the position without recording scores, for a loop that counts batches."""
        self.progress.trained = position

    def leave(self) -> None:
        """End the piece.  It counts as read to its end, even if ``drop_last`` has left out its last examples."""
        self.progress.leave()

    def close_epoch(self) -> None:
        """Note that a user epoch has ended for the callbacks of a framework."""
        self.progress.close_epoch()

    def exchange(self) -> None:
        """Give every process the scores that the others recorded.  A collective call, which one process may skip."""
        if world()[1] == 1 or not self.method.observes or not self.progress.pieces:
            return
        piece, progress = self.progress.piece, self.progress
        for batch in self.steps.replay(self.sampler.piece_indices, self.method.reads, progress.exchanged):
            self.history.update(*batch, piece.epoch_at(progress.exchanged))
            progress.exchanged += len(batch[0])

    def choose_for(self, phase: Phase) -> None:
        """Choose the kept set of a phase.  A collective call.

        All ranks hold the same history here, and `choose` sends rank 0's choice to all of them.

        Raises:
            RuntimeError: a scoring pass is due and has not been made.
        """
        if self.needs_pass(phase):
            raise RuntimeError(
                f"method {self.method.name!r} needs a scoring pass before epoch {phase.first_epoch}: add "
                "`if pruner.wants_scores: pruner.rescore(score_indices)` after the loop over the loader"
            )
        with self.listener.choosing(phase):
            self._choose_for(phase)

    # --- scoring passes ------------------------------------------------------------------------

    def needs_pass(self, phase: Phase) -> bool:
        """Whether choosing for ``phase`` still needs a scoring pass."""
        done = phase.index <= self.progress.chosen_for or phase.index == self.progress.scored_for
        useless = phase.size == self.n and not (self.schedule.keeps_all and self.record_scores)
        if phase.first_epoch == 0 or useless or done:
            return False
        return self.method.scoring_pass(self.history, phase.index) is not None

    @property
    def wants_scores(self) -> bool:
        """Whether the current piece is the last before a phase that needs a scoring pass."""
        progress = self.progress
        return not progress.in_last_piece and self.needs_pass(progress.pieces[progress.piece_number + 1].phase)

    @property
    def expects_pass(self) -> bool:
        """Whether a scoring pass is still to come in this run."""
        return any(self.needs_pass(piece.phase) for piece in self.progress.pieces[self.progress.piece_number :])

    def rescore(self, score: ScoreIndices) -> None:
        """Make the scoring pass for the next phase.

        Args:
            score: called once with the int64 indices to score.  Each of several processes gets its share of them, and
                all shares have the same length.

        Raises:
            RuntimeError: the pass failed on another process.  The process on which it failed raises its own error.
        """
        self.exchange()
        start = time.perf_counter()
        coming = self.progress.chosen_for + 1
        index = self._to_score(coming)
        if len(index):
            share = even_share(index)
            with self.listener.scoring(len(share)):
                self._score(share, score, self._last_epoch_before(coming))
        self.progress.scored_for = coming
        self._score_seconds = time.perf_counter() - start

    def try_scores(self, score: Callable[[Tensor], tuple[Tensor, Scores]]) -> None:
        """Score one batch as a test and drop the scores, so that a scoring error appears before the run.

        This does nothing if the rest of the run reads no scores.  If keep_fraction is 1.0, it reads none unless
        ``record_scores`` is set.  A collective call on several processes.

        Args:
            score: called once with this process's share of the indices.  Returns the indices that it
                chose for the trial, and their scores.

        Raises:
            KeyError, ValueError: see `History.check`.
            RuntimeError: the trial failed on another process.  The process on which it failed raises its own error.
        """
        reads_none = self.schedule.keeps_all and not self.record_scores
        if reads_none or not (self.method.observes or self.expects_pass):
            return
        with together("the trial of one batch"):
            index, scores = score(even_share(torch.arange(self.n, device="cpu")))
            self.history.check(index, self._by_metric(scores))
            self.method.check_scores(index, self._by_metric(scores))

    # --- state ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that a run needs to go on exactly.  It is the same on every rank.

        Raises:
            RuntimeError: other processes have scores that this one has not seen.  Call `exchange` first.
        """
        return state_of(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a ``state_dict()``, also one that version 0.1 wrote.

        Raises:
            ValueError: it belongs to another data set, method, schedule, seed or version, or to a run whose epochs were
                planned differently.  The run is then left as it was.
        """
        load_state(self, checked(self, state))

    # --- inside --------------------------------------------------------------------------------

    def _by_metric(self, scores: Scores) -> Mapping[str, Tensor]:
        if isinstance(scores, Mapping):
            return scores
        if len(self.method.reads) > 1:
            raise TypeError(f"method {self.method.name!r} reads {list(self.method.reads)}: pass a dict of them")
        return dict.fromkeys(self.method.reads, scores)

    def _choose_for(self, phase: Phase) -> None:
        start = time.perf_counter()
        before = self.sampler.indices
        selection = choose(self.method, self.history, phase, self.sampler.seed, self.groups)
        self.sampler.keep(selection.indices)
        self.progress.chosen_for = phase.index
        self.weights = Weights(weight_table(selection.indices, selection.weights, self.n))
        self.cycle = CycleRecord(
            epoch=phase.first_epoch,
            kept=phase.size,
            threshold=threshold(self.method, self.history, selection),
            churn=churn(before, selection.indices, self.n),
            score_seconds=self._score_seconds,
            select_seconds=time.perf_counter() - start,
            facts=facts(self.method, self.history, phase),
        )
        if self.cycle.facts and world()[0] == 0:
            known = ", ".join(f"{name} {value:.3g}" for name, value in self.cycle.facts.items())
            logger.info(
                "method %r keeps %d of %d examples from epoch %d on: %s",
                self.method.name,
                phase.size,
                self.n,
                phase.first_epoch + 1,
                known,
            )
        self._score_seconds = 0.0

    def _score(self, share: Tensor, score: ScoreIndices, epoch: int) -> None:
        if world()[1] == 1:
            self.history.update(share, self._by_metric(score(share)), epoch)
            return
        with together("the scoring pass"):
            scores = self._by_metric(score(share))
            self.history.check(share, scores)
        self.history.update(*gather_scores(share, scores, self.method.reads), epoch)

    def _to_score(self, cycle: int) -> Tensor:
        everything = torch.arange(self.n, device="cpu")
        kept = self.sampler.indices
        if kept is None or self.method.scoring_pass(self.history, cycle) != "pruned":
            return everything
        pruned = torch.ones(self.n, dtype=torch.bool, device="cpu")
        pruned[kept] = False
        return everything[pruned]

    def _last_epoch_before(self, index: int) -> int:
        """The last user epoch of the phases before the one with this index, -1 if there is none."""
        phases = (piece.phase for piece in self.progress.pieces)
        return max((p.first_epoch + p.epochs - 1 for p in phases if p.index < index), default=-1)
