"""`DynamicPruner`: what a training loop sees of a pruned run."""

from __future__ import annotations

import logging
import operator
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fastprune.pruning.by_length import length_groups
from fastprune.pruning.cycle import CycleRecord
from fastprune.pruning.driver import Driver, ScoreIndices, Scores
from fastprune.pruning.history import History
from fastprune.pruning.keep import KeepFraction, counts_tokens
from fastprune.pruning.listener import Listener
from fastprune.pruning.method import DEFAULT_METHOD, Method, get_method
from fastprune.pruning.progress import Progress
from fastprune.pruning.sampler import Arrange, PruningSampler
from fastprune.pruning.schedule import Schedule, budget, epoch_pieces

logger = logging.getLogger(__name__)


class DynamicPruner:
    """Trains on everything for τ epochs, and then on the examples that still teach the model something.

    In a plain loop::

        pruner = fastprune.DynamicPruner(len(train), keep_fraction=0.5, warmup_epochs=1)
        loader = DataLoader(fastprune.with_index(train), sampler=pruner.sampler, batch_size=32)
        for epoch in pruner.epochs(10):
            for batch in loader:
                loss, s = fastprune.cross_entropy(model(batch["x"]), batch["y"], return_scores="el2n")
                pruner.observe(batch["index"], s)
                ...

    In several processes (a torch.distributed group is initialised) every rank has a pruner of its own and makes the
    same calls.  Scores are exchanged before a kept set is chosen, so all ranks keep the same examples.

    Args:
        n: number of training examples, ``len(dataset)``.
        keep_fraction: share of the examples kept after the warm-up, in (0, 1].  At 1.0 nothing changes.  Also a
            `LinearRamp`, a `CosineRamp`, a function of progress, or a `Budget`.
        warmup_epochs: τ, how many epochs at the start are on all examples.  With 0 the first subset is random.  None
            takes the method's own number, which is 0 for ``rs2`` and ``orderdp`` and 1 for all others.  ``auto``
            leaves it out where it would take more than two thirds of a budget.
        cycle_epochs: T, epochs between two selections.  None takes the method's own number, which is 1.
        final_share: share of the epochs that are at the end and on all examples again (InfoBatch's 1 − δ).  None takes
            the method's own share.
        method: a registered name (``fastprune methods``) or a `Method`.
        seed: seed of the permutations and of random selections.
        fingerprint: optional text that identifies the data set.  A state with another fingerprint is refused.
        arrange: an optional function that rearranges the order of an epoch, see `PruningSampler`.
        lengths: the number of tokens of each example, (n,) whole numbers.  Only ``Budget(…, of="tokens")`` needs them.
        record_scores: a run with ``keep_fraction=1.0`` selects nothing, so by default it makes no scoring pass.  True
            makes the passes, so that you can read the scores in ``history``.

    Attributes:
        driver: the protocol of the run, for adapters of frameworks.

    Raises:
        ValueError: an argument is out of range.  The message names it.

    Cost: the bytes an example that the method's card states (12 for ``el2n``), and 4 more for a method with weights.
    One O(n) selection a cycle.

    >>> pruner = DynamicPruner(100, keep_fraction=0.5, warmup_epochs=1, method="random")
    >>> [len(list(pruner.sampler)) for epoch in pruner.epochs(3)]
    [100, 50, 50]
    """

    def __init__(
        self,
        n: int,
        *,
        keep_fraction: KeepFraction,
        warmup_epochs: int | None = None,
        cycle_epochs: int | None = None,
        final_share: float | None = None,
        method: str | Method = DEFAULT_METHOD,
        seed: int = 0,
        fingerprint: str | None = None,
        arrange: Arrange | None = None,
        lengths: Sequence[int] | Tensor | None = None,
        record_scores: bool = False,
    ) -> None:
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise ValueError(f"n is the number of training examples and must be >= 1, got {n!r}; pass len(dataset)")
        chosen = get_method(method)
        chosen.check_size(n)
        schedule = chosen.schedule(keep_fraction, warmup_epochs, cycle_epochs, final_share)
        constant = schedule.constant_size(n)
        if constant is not None and constant < n:
            chosen.check_keep(n, constant)
        if schedule.warmup_epochs < chosen.least_warmup and not schedule.keeps_all:
            logger.warning(
                "method %r measures changes between epochs: with warmup_epochs=%d it cannot tell examples apart; set "
                "it to %d or more",
                chosen.name,
                schedule.warmup_epochs,
                chosen.least_warmup,
            )
        self.driver = Driver(
            n,
            chosen,
            schedule,
            seed=operator.index(seed),
            fingerprint=fingerprint,
            arrange=arrange,
            groups=None if schedule.keeps_all else _groups(keep_fraction, lengths, chosen, n),
            record_scores=record_scores,
        )

    def __repr__(self) -> str:
        what = f"n={self.n}, method={self.method.name!r}, keep_fraction={self.schedule.keep_fraction!r}"
        return f"DynamicPruner({what}; {self.progress.describe()}, {len(self.kept_indices)} examples kept)"

    def reset(self, seed: int | None = None) -> None:
        """Forget every score, the kept set and the position, as before a run.

        Args:
            seed: a new seed.  None keeps the present one.
        """
        self.driver.restart(seed)

    # --- the run as epochs ---------------------------------------------------------------------

    def total_examples(self, epochs: int) -> int:
        """Training examples of a plain run of ``epochs`` user epochs: τN + Σ k_t.

        Raises:
            ValueError: the method cannot keep as many as an epoch asks for.
        """
        return budget(self.driver.phases(epochs))

    def total_batches(self, epochs: int, batch_size: int, *, drop_last: bool = False) -> int:
        """Batches of a plain run.  This is the length of its LR schedule.

        Args:
            epochs: the number of user epochs.
            batch_size: the loader's batch size, summed over all processes.
            drop_last: the loader's setting.  If True, a short last batch of an epoch is left out.

        Raises:
            ValueError: ``batch_size`` is no whole number >= 1.
        """
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be a whole number >= 1, got {batch_size!r}; pass the loader's")
        lengths = [len(piece) for piece in epoch_pieces(self.driver.phases(epochs))]
        return sum(length // batch_size if drop_last else -(-length // batch_size) for length in lengths)

    def epochs(self, epochs: int) -> Iterator[int]:
        """Yield 0, 1, … ``epochs`` − 1.  Iterate the loader once within each.

        The kept set is chosen before an epoch that starts a cycle.

        After ``load_state_dict`` it resumes in the interrupted epoch, after the examples that were already read.  The
        rest of the run is bitwise equal under two conditions.  First, the `DataLoader` needs a ``generator`` of its
        own, because it would draw from the global one whenever an iteration starts.  Second, every step must call
        ``observe``, because workers read ahead.

        A run that was interrupted also goes on when ``epochs`` is called again.  A run that has ended yields nothing
        more, and ``reset()`` starts another.

        One case may surprise.  A state saved at the last step of an epoch with ``drop_last`` resumes in that epoch,
        which then yields no batch.  The pruner cannot know that the rest is dropped.

        Raises:
            RuntimeError: the method needs a scoring pass that ``rescore`` has not been given.
            ValueError: the run is already past ``epochs``, or that number would have changed the epochs trained so far.
        """
        driver, current = self.driver, self.progress.piece_number
        pieces = epoch_pieces(driver.phases(epochs))
        if current >= len(pieces):
            raise ValueError(
                f"epochs is {epochs}, but the run is in epoch {current} already; pass the number it was started with"
            )
        for number in driver.go_on(pieces):
            driver.enter(number)
            yield number
            driver.leave()
        self.exchange()

    # --- scores --------------------------------------------------------------------------------

    def observe(self, index: Tensor, scores: Scores | None = None) -> None:
        """Record a training step: which examples it trained on, and the scores of their logits.

        Call it in every step, once per example.  A resumed run then continues after the last step, however far ahead a
        loader has read.  Methods that do not learn from the steps ignore the scores.

        Args:
            index: (B,) positions of the batch's examples in the data set.  With several processes, this rank's batch.
            scores: (B,) tensor, or a dict of such tensors by metric.  They are never differentiated.

        Raises:
            KeyError, ValueError, IndexError: see `History.check`.
            RuntimeError: the method weights losses, and the loop has not called ``weights`` or ``mean_loss``.

        Cost: a few indexed writes on the scores' device, no synchronisation on CUDA.
        """
        if scores is None and self.method.observes:
            raise ValueError(f"method {self.method.name!r} reads {list(self.method.reads)}: pass them as scores")
        self.driver.take_in(index, scores)

    def exchange(self) -> None:
        """Give every process the scores that the others observed.  With one process it does nothing.

        A collective call.  The pruner makes it whenever an epoch begins and when the run ends.  Call it yourself, on
        every rank, before ``state_dict`` in the middle of an epoch.
        """
        self.driver.exchange()

    @property
    def wants_scores(self) -> bool:
        """True when the current epoch is the last before a cycle that needs a scoring pass."""
        return self.driver.wants_scores

    def rescore(self, score_indices: ScoreIndices | None = None, *, score_fn: ScoreIndices | None = None) -> None:
        """Score the examples the method asks for (all, unless it says otherwise) for the next cycle.

        Args:
            score_indices: called once with the int64 indices to score.  Returns their scores in that order, as a tensor
                or a dict by metric.  `fastprune.score_dataset` makes the pass for a model.  Each of several processes
                gets its share of the indices, and all shares have the same length.
            score_fn: what ``score_indices`` was called in version 0.1.  It goes away in 0.3.

        Raises:
            TypeError: ``score_indices`` is missing.
            RuntimeError: the pass failed on another process.  The process on which it failed raises its own error.
        """
        if score_fn is not None:
            warnings.warn("rescore(score_fn=...) is called score_indices now", DeprecationWarning, stacklevel=2)
            score_indices = score_fn
        if score_indices is None:
            raise TypeError("rescore() needs score_indices, a function from indices to their scores")
        self.driver.rescore(score_indices)

    # --- weights -------------------------------------------------------------------------------

    def weights(self, index: Tensor) -> Tensor | None:
        """The weight of each example's loss in a batch, or None if all count alike.

        The weights are fp32, on the device of ``index``.  The weighted loss of a batch is the *mean* of weight · loss
        over its examples.  It is not divided by the sum of weights.
        """
        return self.driver.weights.of(index)

    def mean_loss(self, losses: Tensor, index: Tensor) -> Tensor:
        """The mean of a batch's losses (B,), with the method's weights if it has any.  It can be differentiated."""
        return self.driver.weights.mean_loss(losses, index)

    # --- what there is to see ------------------------------------------------------------------

    @property
    def n(self) -> int:
        """Number of training examples."""
        return self.driver.n

    @property
    def method(self) -> Method:
        """What chooses the kept sets."""
        return self.driver.method

    @property
    def schedule(self) -> Schedule:
        """When kept sets are chosen, and how many examples they hold."""
        return self.driver.schedule

    @property
    def seed(self) -> int:
        """The seed of the order and of random selections."""
        return self.driver.sampler.seed

    @property
    def sampler(self) -> PruningSampler:
        """The order of the examples, for the loader."""
        return self.driver.sampler

    @property
    def history(self) -> History:
        """What is remembered of the scores."""
        return self.driver.history

    @property
    def progress(self) -> Progress:
        """Where the run is."""
        return self.driver.progress

    @property
    def fingerprint(self) -> str | None:
        """Identifies the data set.  A state with another fingerprint is refused."""
        return self.driver.fingerprint

    @fingerprint.setter
    def fingerprint(self, text: str | None) -> None:
        self.driver.fingerprint = text

    @property
    def record_scores(self) -> bool:
        """Whether scoring passes are also made in a run that keeps every example."""
        return self.driver.record_scores

    @record_scores.setter
    def record_scores(self, wanted: bool) -> None:
        self.driver.record_scores = wanted

    @property
    def listener(self) -> Listener:
        """Is called around scoring passes and selections.  Set your own `Listener` here."""
        return self.driver.listener

    @listener.setter
    def listener(self, listener: Listener) -> None:
        self.driver.listener = listener

    @property
    def cycle(self) -> CycleRecord:
        """What the newest selection did."""
        return self.driver.cycle

    @property
    def kept_indices(self) -> Tensor:
        """The examples that the current phase trains on: int64, ascending."""
        kept = self.sampler.indices
        return torch.arange(self.n, device="cpu") if kept is None else kept.clone()

    def log(self) -> dict[str, float]:
        """Facts about the newest cycle, under fastprune's log keys."""
        return {
            **{f"prune/{name}": value for name, value in self.cycle.facts.items()},
            "prune/keep_fraction": self.cycle.kept / self.n if self.cycle.kept else 1.0,
            "prune/threshold": self.cycle.threshold,
            "prune/churn": self.cycle.churn,
            "prune/score_seconds": self.cycle.score_seconds,
            "prune/select_seconds": self.cycle.select_seconds,
            "prune/examples_seen": float(self.progress.examples_seen),
        }

    # --- state ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that a run needs to go on exactly: history, kept set and position.  It is the same on every rank.

        Raises:
            RuntimeError: other processes have scores that this one has not seen.  Call ``exchange`` on all of them
                first.
        """
        return self.driver.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a ``state_dict()``, also one that version 0.1 wrote.

        Raises:
            ValueError: the state belongs to another data set, method, schedule, seed or version, or to a run whose
                epochs were planned differently.  The run is then left as it was.
        """
        self.driver.load_state_dict(state)


def _groups(keep: KeepFraction, lengths: Sequence[int] | Tensor | None, method: Method, n: int) -> list[Tensor] | None:
    """Examples of like length, if the budget counts tokens and the method could prefer long texts."""
    if not counts_tokens(keep) or method.blind:
        return None
    if lengths is None:
        raise ValueError(
            "a budget of tokens needs the length of each example: pass lengths=[len(ids) for ids in ...] to "
            "DynamicPruner, or give the data set of a Trainer or of Lightning a column 'length' or 'input_ids'"
        )
    return length_groups(lengths, n)
