"""Dynamic pruning inside an unmodified Lightning ``Trainer`` (2.6), in one process or several.

A user's epoch is an epoch for Lightning, too.  Lightning reads the length of an epoch when it sets up the train loader,
and it does so only once.  So the callback does three things:

* It gives Lightning one loader for the whole run, which is the user's loader with the pruner's sampler.
* At the end of each epoch it chooses the examples of the next.  If their number changes, Lightning has to set up the
  same loader again.  Limits, ``val_check_interval`` and progress bars then follow the new length.  The workers and the
  data set stay.
* While optimizers and schedules are configured, it tells Lightning the number of steps of all epochs together.

The place of a batch in the order says which examples it holds.  So nothing is added to a batch.

Lightning's own checkpoint holds no random state.  So the callback saves that of each process.  A resumed run sets it
once, before its first batch.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

try:
    from lightning.pytorch import Callback
except ImportError:
    try:
        from pytorch_lightning import Callback  # type: ignore[assignment]
    except ImportError as error:
        raise ImportError("fastprune.PruningCallback needs Lightning: pip install 'fastprune[lightning]'") from error

from fastprune.errors import UsageError
from fastprune.integrations.batch_metrics import loggable
from fastprune.integrations.batch_scoring import BatchScoring, ScoreFn
from fastprune.integrations.datasets import fingerprint, lengths_for
from fastprune.integrations.lightning.checks import check_trainer
from fastprune.integrations.lightning.loader import TrainLoader, loader_order
from fastprune.integrations.lightning.plan import plan_epochs
from fastprune.integrations.lightning.randomness import RunRandomness
from fastprune.integrations.lightning.scores import ForwardFn, LightningScores
from fastprune.integrations.lightning.state import check_has_state, readable, resume
from fastprune.integrations.lightning.step import CurrentBatch
from fastprune.platform.collectives import world
from fastprune.pruning import (
    DEFAULT_METHOD,
    Driver,
    DynamicPruner,
    KeepFraction,
    Method,
    Piece,
    RankSampler,
    get_method,
)
from fastprune.pruning.state_versions import VERSION
from fastprune.scores.task import Task


class PruningCallback(Callback):
    """Makes ``trainer.fit()`` prune its training data.

    Pass it to the trainer::

        trainer = L.Trainer(max_epochs=10, callbacks=[fastprune.PruningCallback(keep_fraction=0.5)])

    An epoch is one pass over all examples during the warm-up, and one pass over the kept ones after it.  Validation,
    checkpoints, early stopping and progress bars follow these epochs.  In ``setup`` and ``configure_optimizers``
    ``trainer.estimated_stepping_batches`` is the true number of steps.  An explicit ``max_steps`` wins.  Each new cycle
    is logged as ``prune/*``.

    Checkpoints hold the pruning state, and ``fit(ckpt_path=...)`` resumes exactly, also inside an epoch.  They hold the
    random state of each process, so dropout resumes exactly, too.  Only the loader's workers draw other random numbers
    after a resume inside an epoch.  Lightning still warns that the loader is not resumable.

    Where scores come from depends on the method (``fastprune methods``):

    * Methods that learn from the training steps ("auto", the default, and "el2n-free") read what ``training_step``
      returns.  It must hold the logits: ``return {"loss": loss, "logits": logits}``.  Some optimizers run the step
      several times on one batch (LBFGS, SAM).  Then the first run counts.
    * A scoring pass ("el2n", the paper's) calls ``forward_fn(pl_module, batch)`` in eval mode without gradients.  By
      default that is ``pl_module(x)`` for ``(x, y)`` batches and ``pl_module(**fields)`` for mappings.

    In both cases ``task`` finds logits and labels in those outputs and the batch, unless ``score_fn`` is given.  A
    method with weights ("infobatch", "repb") needs the loss of each example, see `mean_loss`.

    Errors come early.  If a scoring pass is to come, every process scores its first batch before the first training
    step, and drops the scores.  Neither this test nor the pass changes the run.  Random states, modes and whatever
    ``forward`` counts in the module are put back, and what it logs is dropped.  A method that learns from the training
    steps fails in the first step.  With automatic optimization that is before the weights change.

    Args:
        keep_fraction: share of the examples kept after the warm-up, see `DynamicPruner`.  At 1.0 nothing changes.
            Random numbers and weights are those of a plain sampler of the same order, and no scoring pass is made.
        warmup_epochs: how many epochs at the start are on all examples, see `DynamicPruner`.
        cycle_epochs: epochs between two selections, see `DynamicPruner`.
        final_share: share of the epochs that are at the end and on all examples, see `DynamicPruner`.
        method: a registered name or a `Method`.  "auto" was measured for classes of texts and tokens.  For other tasks
            "rs2", random subsets, is the safe choice.
        seed: seed of the order and of random selections.  By default that of ``seed_everything``, or 0 without it.
        task: where logits and labels are.  By default logits are ``outputs["logits"]``, or the output itself if it is a
            tensor.  Labels are ``batch["labels"]``, or the second part of an ``(x, y)`` pair.
        score_fn: ``(outputs, batch) -> (B,)`` scores or a dict of them by metric, in place of ``task``.
            For "auto" scores must be at least 0.
        forward_fn: ``(pl_module, batch) -> outputs``, which the scoring pass calls.
        score_batch_size: batch size of the scoring pass.  By default 4 × the train loader's.

    Attributes:
        pruner: the `DynamicPruner` of the newest run, for ``kept_indices``, ``history`` and ``log()``.  It is None
            before the first run.

    Raises:
        ValueError: an argument is out of range.  ``fit`` raises it if pruning does not support how the trainer or its
            train dataloader is set up.  The message says what to change.
        UsageError: raised by ``fit``: the checkpoint belongs to another data set, method or schedule.

    Cost: the history (12 bytes an example).  For "el2n" also one forward pass over the data a cycle, which reads the
    data in the main process, and a forward pass of one batch before the first step.

    Example:
        >>> import torch, fastprune
        >>> from lightning.pytorch import LightningModule, Trainer
        >>> class Net(LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.net = torch.nn.Linear(4, 2)
        ...
        ...     def training_step(self, batch, batch_idx):
        ...         x, y = batch
        ...         logits = self.net(x)
        ...         return {"loss": fastprune.cross_entropy(logits, y), "logits": logits}
        ...
        ...     def configure_optimizers(self):
        ...         return torch.optim.AdamW(self.parameters())
        >>> data = torch.utils.data.TensorDataset(torch.randn(8, 4), torch.arange(8) % 2)
        >>> pruning = PruningCallback(keep_fraction=0.5)
        >>> quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        >>> trainer = Trainer(max_epochs=2, accelerator="cpu", callbacks=[pruning], enable_model_summary=False, **quiet)
        >>> trainer.fit(Net(), DataLoader(data, batch_size=4, shuffle=True))
        >>> len(pruning.pruner.kept_indices)
        4
    """

    pruner: DynamicPruner | None = None
    _fitting: bool
    _tried: bool
    _max_steps: int | None
    _state: Mapping[str, Any] | None
    _train: TrainLoader
    _step_examples: int
    _batch: CurrentBatch
    _randomness: RunRandomness

    def __init__(
        self,
        *,
        keep_fraction: KeepFraction,
        warmup_epochs: int | None = None,
        cycle_epochs: int | None = None,
        final_share: float | None = None,
        method: str | Method = DEFAULT_METHOD,
        seed: int | None = None,
        task: Task | None = None,
        score_fn: ScoreFn | None = None,
        forward_fn: ForwardFn | None = None,
        score_batch_size: int | None = None,
    ) -> None:
        self.method = get_method(method)
        self.seed = seed
        scoring = BatchScoring(task, score_fn, score_batch_size)
        self._scores = LightningScores(scoring, forward_fn, self.method.reads)
        self._make_pruner = functools.partial(
            DynamicPruner,
            keep_fraction=keep_fraction,
            warmup_epochs=warmup_epochs,
            cycle_epochs=cycle_epochs,
            final_share=final_share,
        )
        # Bad options fail here and not only in fit, where the data are known.
        self.method.schedule(keep_fraction, warmup_epochs, cycle_epochs, final_share)
        self._forget()

    @staticmethod
    def mean_loss(pl_module: Any, losses: Tensor) -> Tensor:
        """The mean of the current batch's losses (B,), with the method's weights if it has any.

        It can be differentiated::

            def training_step(self, batch, batch_idx):
                losses = F.cross_entropy(self(batch["x"]), batch["y"], reduction="none")
                return fastprune.PruningCallback.mean_loss(self, losses)

        It is the plain mean outside of training, and without a `PruningCallback`.

        Raises:
            ValueError: there is not one loss for each example of the batch.
        """
        callback = _callback_of(pl_module)
        if callback is None or callback.pruner is None:
            return losses.mean()
        return callback.pruner.mean_loss(losses, callback._batch.owners_of(losses))

    # --- a run ---------------------------------------------------------------------------------

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Take over the train loader, before anyone asks for its length."""
        if stage != "fit":
            return
        check_trainer(trainer)
        self._release(trainer)
        self._forget()
        self._fitting, self._max_steps = True, trainer.max_steps
        self._train.take_over(trainer, functools.partial(self._begin, trainer))
        loop = trainer.fit_loop.epoch_loop
        loop._on_before_fetch = functools.partial(self._before_fetch, loop._on_before_fetch)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Fix the lengths of epochs, and let Lightning resume as it does without ``max_steps``.

        With ``max_steps``, a loop that is restored at the end of an epoch treats that epoch as unfinished.  It then
        trains on a batch too many, or skips what comes next.
        """
        trainer.fit_loop.epoch_loop.max_steps = -1
        self._train.end_estimate(trainer)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Take up the epoch in which Lightning begins."""
        self._restore_max_steps(trainer)
        self._batch.watch(trainer)
        progress, epoch = self._driver.progress, _epoch_of(trainer)
        if self._state is not None and epoch == progress.piece_number + 1:
            # The state was saved after the last batch of an epoch.  Lightning begins the next epoch at once.
            if not progress.in_last_piece:
                self._enter_next(trainer)
                self._train.begin_at_first_batch(trainer)
        elif epoch != progress.piece_number:
            raise UsageError(
                f"fit goes on in epoch {epoch}, pruning in epoch {progress.piece_number}: pass ckpt_path, or make "
                "a new Trainer"
            )

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Log a new cycle."""
        piece = self._driver.progress.piece
        if piece.phase.index > 0 and piece.start == 0:
            for logger in trainer.loggers:
                logger.log_metrics(loggable(self._run), step=trainer.global_step)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Find out which examples the batch holds before its loss is computed.

        Before the first batch of the run, one batch is scored as a test.
        """
        if not self._tried:
            self._tried = True
            self._try_pass(trainer)
        self._batch.begin(batch_idx, self._loader.batch_size or 1)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Take in the batch and, if the method learns from it, its scores."""
        self._randomness.note_batch(trainer)
        # There are no scores if training_step returned None and the batch was skipped.
        self._driver.take_in(self._batch.index, self._batch.scores)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Validation has begun to read its loaders."""
        self._randomness.note_validation()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Choose the next epoch's examples, so that Lightning finds the loader at its new length."""
        if not self._driver.progress.in_last_piece:
            self._enter_next(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Give the last scores to all processes."""
        self._driver.exchange()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Leave the trainer as it was."""
        if stage == "fit":
            self._release(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave the trainer as it was."""
        self._release(trainer)

    # --- state ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to go on exactly.  A collective call on several processes."""
        if self.pruner is None:
            return {"version": VERSION, "pruner": None}
        self.pruner.exchange()
        return {
            "version": VERSION,
            "step_examples": self._step_examples,
            "pruner": self.pruner.state_dict(),
            **self._randomness.state_dict(),
        }

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint without pruning state.

        If the loader was requested before this call, it stands at the start of the run, so it is set up again.
        """
        if not self._fitting:
            return
        check_has_state(checkpoint, self.state_key)
        if self._train.loader is not None:
            self._train.set_up_again(trainer)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from ``state_dict()`` as soon as the data are known.

        Raises:
            UsageError: the state belongs to another run.
        """
        # A tuner saves a checkpoint before the run begins.  That one holds no pruner.
        if not self._fitting or state_dict["pruner"] is None:
            return
        self._state = readable(state_dict)
        self._randomness.load_state_dict(self._state)
        if self.pruner is not None:
            self._resume(self._driver, self._driver.progress.pieces, self._state)

    # --- inside --------------------------------------------------------------------------------

    @property
    def _run(self) -> DynamicPruner:
        assert self.pruner is not None, "the run has not begun"
        return self.pruner

    @property
    def _driver(self) -> Driver:
        return self._run.driver

    @property
    def _loader(self) -> DataLoader[Any]:
        assert self._train.loader is not None, "Lightning has not asked for the train loader"
        return self._train.loader

    def _forget(self) -> None:
        self.pruner = self._max_steps = self._state = None
        self._fitting = self._tried = False
        self._train = TrainLoader()
        self._step_examples = 0
        self._batch = CurrentBatch(self._scores, self.method)
        self._randomness = RunRandomness()

    def _release(self, trainer: Any) -> None:
        self._train.release(trainer)
        vars(trainer.fit_loop.epoch_loop).pop("_on_before_fetch", None)
        self._restore_max_steps(trainer)
        self._batch.release()
        if self._fitting:
            # Training may have stopped after the loader was requested again and before Lightning made it.
            trainer.reload_dataloaders_every_n_epochs = 0
        self._fitting = False

    def _restore_max_steps(self, trainer: Any) -> None:
        if self._max_steps is not None:
            trainer.fit_loop.epoch_loop.max_steps, self._max_steps = self._max_steps, None

    def _begin(self, trainer: Any, loader: DataLoader[Any]) -> tuple[RankSampler, int]:
        """Plan the run, and move to its start or to the checkpoint's position.

        Returns:
            This process's sampler and the length of its longest epoch, which `TrainLoader.take_over` asks for.
        """
        rank, world_size = _share_of(trainer)
        dataset: Any = loader.dataset
        pruner = self._make_pruner(
            len(dataset),
            method=self.method,
            seed=int(os.environ.get("PL_GLOBAL_SEED", 0)) if self.seed is None else self.seed,
            fingerprint=fingerprint(dataset),
            arrange=loader_order(loader),
            lengths=lengths_for(self._make_pruner.keywords["keep_fraction"], dataset),
        )
        driver, max_steps = pruner.driver, trainer.max_steps if self._max_steps is None else self._max_steps
        self._step_examples = (loader.batch_size or 1) * world_size
        pieces, steps = plan_epochs(trainer, loader, driver, world_size, max_steps)
        # Schedules read max_steps until training starts.  If it has changed here, a tuner is making its trial steps.
        if trainer.max_steps == max_steps:
            trainer.fit_loop.epoch_loop.max_steps = steps if max_steps == -1 else min(steps, max_steps)
        if self._state is None:
            driver.begin(pieces)
            self._begin_epoch(driver)
        else:
            self._resume(driver, pieces, self._state)
        self.pruner = pruner
        self._randomness.begin(trainer.strategy.root_device)
        return driver.sampler.shard(rank, world_size), -(-max(map(len, pieces)) // world_size)

    def _resume(self, driver: Driver, pieces: Sequence[Piece], state: Mapping[str, Any]) -> None:
        resume(driver, pieces, state, self.seed, self._step_examples)
        self._begin_epoch(driver)

    def _before_fetch(self, original: Callable[[], None]) -> None:
        """Takes the place of the loop's own hook, which is called before each batch is read."""
        self._restore_random_state()
        self._randomness.fetch()
        original()

    def _restore_random_state(self) -> None:
        self._randomness.restore(self._driver.progress, self._loader)

    def _try_pass(self, trainer: Any) -> None:
        """Score the first batch of the next pass, so that an error appears before the first training step."""
        driver, loader = self._driver, self._loader
        if driver.expects_pass:
            driver.try_scores(lambda index: self._scores.first_of_pass(trainer, loader, index))

    def _enter_next(self, trainer: Any) -> None:
        """Enter the next epoch.  Score and select if a cycle starts there."""
        driver, loader, before = self._driver, self._loader, len(self._driver.sampler)
        self._restore_random_state()  # a scoring pass reads the data, and that may draw random numbers
        driver.leave()
        driver.enter_next(lambda index: self._scores.scoring_pass(trainer, loader, index))
        self._begin_epoch(driver)
        if len(driver.sampler) != before:
            self._train.set_up_again(trainer)

    def _begin_epoch(self, driver: Driver) -> None:
        self._batch.begin_epoch(driver.sampler.shard(*world()).indices_from(0))


def _callback_of(pl_module: Any) -> PruningCallback | None:
    """The callback that prunes what the module trains on.  None outside of training."""
    trainer = pl_module._trainer
    callbacks = () if trainer is None or not trainer.training else trainer.callbacks
    return next((c for c in callbacks if isinstance(c, PruningCallback)), None)


def _epoch_of(trainer: Any) -> int:
    """The number of the epoch in which Lightning's loop goes on.  It is also the number of a piece."""
    return trainer.fit_loop.epoch_progress.current.processed


def _share_of(trainer: Any) -> tuple[int, int]:
    """Rank and world size of this process as a reader of the data.

    Raises:
        ValueError: the strategy divides the data in another way.
    """
    shares = trainer.distributed_sampler_kwargs or {"rank": 0, "num_replicas": 1}
    rank, world_size = world()
    if (shares["rank"], shares["num_replicas"]) != (rank, world_size):
        raise ValueError(
            f"strategy {type(trainer.strategy).__name__} deals the data out to {shares['num_replicas']} readers "
            f"among {world_size} processes of torch.distributed; use one in which every process reads its own share"
        )
    return rank, world_size
