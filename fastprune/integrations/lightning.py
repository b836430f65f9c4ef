"""Dynamic pruning inside an unmodified Lightning ``Trainer``, 2.6, in one process or many.

A user's epoch stays an epoch of Lightning's.  Lightning reads the length of an epoch when it sets up the train
loader, which it does once.  So the callback

* hands out one loader for the whole run, the user's with the pruner's sampler, through the loop's data source;
* chooses the examples of the next epoch at the end of each, and where their number changes lets Lightning set up the
  same loader again: limits, ``val_check_interval`` and progress bars follow, workers and data stay;
* tells Lightning the number of steps of all epochs together while optimizers and schedules are configured.

Which examples a batch holds follows from its place in the order: nothing is added to a batch.

A checkpoint of Lightning's holds no random state.  The callback's holds that of each process, and a resumed run sets it
once, before its first batch.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Mapping
from typing import Any, Unpack

import torch
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
from fastprune.integrations._batch_metrics import without_owners
from fastprune.integrations._datasets import fingerprint
from fastprune.integrations._hooks import override
from fastprune.integrations._lightning_checks import check_batches, check_loader, check_trainer
from fastprune.integrations._lightning_loader import RankOrder, arrange_as, batches_of, in_order
from fastprune.integrations._lightning_scores import ForwardFn, ScoreFn, Scoring
from fastprune.integrations._random_state import draw_seeds, random_states, seeds_of, set_random_state
from fastprune.pruning import DynamicPruner, Method, Piece, PruningOptions, get_method
from fastprune.pruning.exchange import world
from fastprune.pruning.schedule import epoch_pieces, epochs_for
from fastprune.scores.task import Task

VERSION = 3


class PruningCallback(Callback):
    """Makes ``trainer.fit()`` prune its training data::

        trainer = L.Trainer(max_epochs=10, callbacks=[fastprune.PruningCallback(keep_fraction=0.5)])

    Epochs keep their meaning: passes over all examples during the warm-up, then over the kept ones.  Validation,
    checkpoints, early stopping and progress bars follow them, and ``trainer.estimated_stepping_batches`` is the true
    number of steps in ``setup`` and ``configure_optimizers``.  Explicit ``max_steps`` wins.  Checkpoints hold the
    pruning state, and ``fit(ckpt_path=...)`` goes on exactly, also inside an epoch (Lightning warns all the same that
    the loader is not resumable).  Dropout goes on, too: checkpoints hold the random state of each process.  Inside an
    epoch loader workers begin with other random numbers.  Each new cycle is logged as ``prune/*``.

    Where scores come from depends on the method (``fastprune methods``):

    * a scoring pass ("el2n", the default and the paper's) calls ``forward_fn(pl_module, batch)`` in eval mode without
      gradients.  By default that is ``pl_module(x)`` for ``(x, y)`` batches and ``pl_module(**fields)`` for mappings;
    * methods that learn from the training steps ("el2n-free") read what ``training_step`` returns, which must hold
      the logits: ``return {"loss": loss, "logits": logits}``.  Of an optimizer that runs the step more than once on a
      batch (LBFGS, SAM) the first time counts.

    Either way ``task`` finds logits and labels in those outputs and the batch, or ``score_fn`` takes its place.  A
    method with weights ("infobatch", "repb") needs the loss of each example: see `mean_loss`.

    Before the first training step the first batch of the next scoring pass is scored, on every process, and its scores
    are forgotten: what cannot be scored fails there.  That batch and the pass change nothing of the run: random states,
    modes and what ``forward`` counts in the module stay as they are, and what it logs meanwhile goes nowhere.  A method
    that learns from the training steps fails in the first one, with automatic optimization before the weights change.

    Args:
        method: a registered name or a `Method`.
        seed: of the order and of random selections; by default that of ``seed_everything``, else 0.
        task: where logits and labels are; by default "logits" (or the output itself, if it is a tensor), and "labels"
            of a mapping or the second part of an ``(x, y)`` pair.
        score_fn: ``(outputs, batch) -> (B,)`` scores or a dict of them by metric, in place of ``task``.
        forward_fn: ``(pl_module, batch) -> outputs`` of the scoring pass.
        score_batch_size: of the scoring pass; by default 4 × the train loader's.
        options: what to prune and when, see `PruningOptions`; ``keep_fraction`` is required.  At 1.0 nothing changes:
            same random numbers and weights as with a plain sampler of the same order, and no scoring pass is made.

    Attributes:
        pruner: the `DynamicPruner` of the newest run, for ``kept_indices``, ``history`` and ``log()``; None before.

    Raises:
        ValueError: here, an argument is out of range; in ``fit``, the trainer or its train dataloader is set up in a
            way that does not go with pruning; the message says which.
        UsageError: in ``fit``, the checkpoint belongs to another data set, method or schedule.

    Cost: the history (12 bytes an example) and, for "el2n", one forward pass over the data a cycle, which reads the
    data in the main process, and one of a batch before the first step.
    """

    pruner: DynamicPruner | None = None
    _fitting: bool
    _estimating: bool
    _tried: bool
    _order: RankOrder | None
    _max_steps: int | None
    _state: Mapping[str, Any] | None
    _loader: DataLoader[Any] | None
    _step_examples: int
    _indices: Tensor
    _index: Tensor
    _device: torch.device
    _fetched: bool
    _seeds_due: int
    _awaits_scores: bool
    _scores: Mapping[str, Tensor] | None
    _strategy: Any

    def __init__(
        self,
        *,
        method: str | Method = "el2n",
        seed: int | None = None,
        task: Task | None = None,
        score_fn: ScoreFn | None = None,
        forward_fn: ForwardFn | None = None,
        score_batch_size: int | None = None,
        **options: Unpack[PruningOptions],
    ) -> None:
        self.method = get_method(method)
        # Bad options are refused here, not when the data are known.
        DynamicPruner(1, method="full", **options)
        self.seed = seed
        self.scoring = Scoring(task, score_fn, forward_fn, score_batch_size)
        self.options = options
        self._forget()

    @staticmethod
    def mean_loss(pl_module: Any, losses: Tensor) -> Tensor:
        """The mean of the current batch's losses, (B,), weighted where the method weights them; differentiable::

            def training_step(self, batch, batch_idx):
                losses = F.cross_entropy(self(batch["x"]), batch["y"], reduction="none")
                return fastprune.PruningCallback.mean_loss(self, losses)

        The plain mean outside of training, and without a `PruningCallback`.

        Raises:
            ValueError: there is not one loss for each example of the batch.
        """
        trainer = pl_module._trainer
        callbacks = () if trainer is None or not trainer.training else trainer.callbacks
        callback = next((c for c in callbacks if isinstance(c, PruningCallback)), None)
        if callback is None or callback.pruner is None:
            return losses.mean()
        if losses.shape != callback._index.shape:
            raise ValueError(
                f"losses has shape {tuple(losses.shape)}, the batch holds {len(callback._index)} examples: pass the "
                "loss of each, computed with reduction='none'"
            )
        return callback.pruner.mean_loss(losses, callback._index)

    # --- a run ---------------------------------------------------------------------------------

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Take over the train loader, before anyone asks for its length."""
        if stage != "fit":
            return
        check_trainer(trainer)
        self._release(trainer)
        self._forget()
        self._fitting, self._estimating, self._max_steps = True, True, trainer.max_steps
        source = trainer.fit_loop._data_source
        source.dataloader = functools.partial(self._train_dataloader, trainer, source.dataloader)
        loop = trainer.fit_loop.epoch_loop
        loop._on_before_fetch = functools.partial(self._before_fetch, loop._on_before_fetch)

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Epochs are as long as they are from now on; and let Lightning resume as it does without ``max_steps``.

        With it a loop restored from the end of an epoch takes that epoch for unfinished: it trains another batch of
        it, or skips the next one.
        """
        trainer.fit_loop.epoch_loop.max_steps = -1
        self._estimating = False
        if self._order is not None:
            estimated, self._order.longest = self._order.longest, None
            if estimated != len(self._order):
                _set_up_again(trainer)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Take up the epoch in which Lightning begins."""
        assert self.pruner is not None
        self._restore_max_steps(trainer)
        if self.method.observes:
            self._strategy = trainer.strategy
            override(trainer.strategy, "training_step", self._training_step)
        epoch, last = trainer.fit_loop.epoch_progress.current.processed, len(self.pruner.sampler.pieces) - 1
        if self._state is not None and epoch == self.pruner.sampler.epoch + 1:
            # Saved behind the last batch of an epoch: Lightning goes straight on to the next one.
            if epoch <= last:
                self._next_epoch(trainer, epoch)
                self._leave_epoch(trainer)
        elif epoch != self.pruner.sampler.epoch:
            raise UsageError(
                f"fit goes on in epoch {epoch}, pruning in epoch {self.pruner.sampler.epoch}: pass ckpt_path, or make "
                "a new Trainer"
            )

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Log a new cycle."""
        assert self.pruner is not None
        piece = self.pruner.sampler.piece
        if piece.phase.index > 0 and piece.start == 0:
            values = {key: value for key, value in self.pruner.log().items() if math.isfinite(value)}
            for logger in trainer.loggers:
                logger.log_metrics(values, step=trainer.global_step)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Know the batch's examples before its loss is computed; before the first batch, try a scoring pass."""
        assert self._loader is not None
        if not self._tried:
            self._tried = True
            self._try_pass(trainer)
        size = self._loader.batch_size or 1
        self._index = self._indices[batch_idx * size : (batch_idx + 1) * size]
        self._awaits_scores, self._scores = True, None

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Take note of the step and, where the method learns from it, of its scores."""
        assert self.pruner is not None
        self._seeds_due = seeds_of(_loaders_due(trainer))
        index = self._index
        if self._scores is not None or not self.pruner.method.observes:
            self.pruner.observe(index, self._scores)
        else:
            # training_step returned None: the batch was skipped.
            self.pruner.position += len(index)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Validation has begun to read its loaders."""
        self._seeds_due = 0

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Choose the next epoch's examples, so that Lightning finds the loader at its new length."""
        assert self.pruner is not None
        epoch = self.pruner.sampler.epoch + 1
        if epoch < len(self.pruner.sampler.pieces):
            self._next_epoch(trainer, epoch)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """The last scores are everyone's, too."""
        assert self.pruner is not None
        self.pruner.exchange()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Leave the trainer as it was."""
        if stage == "fit":
            self._release(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave the trainer as it was."""
        self._release(trainer)

    # --- state ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to go on exactly; on several processes a collective call."""
        if self.pruner is None:
            return {"version": VERSION, "pruner": None}
        self.pruner.exchange()
        return {
            "version": VERSION,
            "step_examples": self._step_examples,
            "pruner": self.pruner.state_dict(),
            "random": random_states(self._device),
            "seeds_due": self._seeds_due,
        }

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint without pruning state; whoever asked for the loader before now got it at its start."""
        if not self._fitting:
            return
        if self.state_key not in checkpoint["callbacks"]:
            raise UsageError(
                "the checkpoint holds no pruning state: it was made without PruningCallback; resume it without, or "
                "start afresh"
            )
        if self._loader is not None:
            _set_up_again(trainer)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from ``state_dict()``; raises `UsageError` for another run's, once the data are known."""
        # A tuner saves the run before it begins.
        if not self._fitting or state_dict["pruner"] is None:
            return
        self._state = state_dict
        if self.pruner is not None:
            self._resume(self.pruner, state_dict)

    # --- inside --------------------------------------------------------------------------------

    def _forget(self) -> None:
        self.pruner = self._max_steps = self._state = self._loader = None
        self._fitting, self._estimating, self._tried, self._step_examples = False, False, False, 0
        self._order = None
        self._fetched, self._seeds_due, self._device = False, 0, torch.device("cpu")
        self._indices = self._index = torch.empty(0, dtype=torch.int64)
        self._awaits_scores, self._scores, self._strategy = False, None, None

    def _release(self, trainer: Any) -> None:
        vars(trainer.fit_loop._data_source).pop("dataloader", None)
        vars(trainer.fit_loop.epoch_loop).pop("_on_before_fetch", None)
        self._restore_max_steps(trainer)
        if self._strategy is not None:
            vars(self._strategy).pop("training_step", None)
            self._strategy = None
        if self._fitting:
            # Training may have stopped between asking for the loader again and getting it.
            trainer.reload_dataloaders_every_n_epochs = 0
        self._fitting, self._loader = False, None

    def _restore_max_steps(self, trainer: Any) -> None:
        if self._max_steps is not None:
            trainer.fit_loop.epoch_loop.max_steps, self._max_steps = self._max_steps, None

    def _train_dataloader(self, trainer: Any, original: Any) -> DataLoader[Any]:
        """In place of the data source's: the user's loader, with the pruner's sampler."""
        if trainer.reload_dataloaders_every_n_epochs:
            trainer.reload_dataloaders_every_n_epochs = 0  # the one setting up that was asked for
        if self._loader is None:
            self._loader = self._begin(trainer, check_loader(original()))
        return self._loader

    def _begin(self, trainer: Any, loader: DataLoader[Any]) -> DataLoader[Any]:
        """Plan the run; go to its start, or to the checkpoint."""
        shares = trainer.distributed_sampler_kwargs or {"rank": 0, "num_replicas": 1}
        rank, world_size = world()
        if (shares["rank"], shares["num_replicas"]) != (rank, world_size):
            raise ValueError(
                f"strategy {type(trainer.strategy).__name__} deals the data out to {shares['num_replicas']} readers "
                f"among {world_size} processes of torch.distributed; use one in which every process reads its own share"
            )
        dataset: Any = loader.dataset
        pruner = DynamicPruner(
            len(dataset),
            method=self.method,
            seed=self._seed(),
            fingerprint=fingerprint(dataset),
            arrange=arrange_as(loader),
            **self.options,
        )
        self._step_examples = (loader.batch_size or 1) * world_size
        pruner.plan(self._plan(trainer, loader, pruner, world_size))
        if self._state is None:
            pruner.start_piece(0)
            pruner.position = 0
            self._indices = _own_indices(pruner)
        else:
            self._resume(pruner, self._state)
        self.pruner = pruner
        longest = -(-max(len(piece) for piece in pruner.sampler.pieces) // world_size)
        self._device = trainer.strategy.root_device
        self._order = RankOrder(pruner.sampler.shard(rank, world_size), longest if self._estimating else None)
        return in_order(loader, self._order, trainer)

    def _seed(self) -> int:
        if self.seed is not None:
            return self.seed
        return int(os.environ.get("PL_GLOBAL_SEED", 0))

    def _plan(self, trainer: Any, loader: DataLoader[Any], pruner: DynamicPruner, world_size: int) -> list[Piece]:
        """A piece for each of max_epochs epochs, or of as many as max_steps steps take."""
        accumulation, limit = trainer.accumulate_grad_batches, trainer.limit_train_batches
        max_steps = trainer.max_steps if self._max_steps is None else self._max_steps

        def batches(epochs: int) -> list[int]:
            pieces = epoch_pieces(pruner.phases(epochs))
            return [batches_of(len(piece), loader, world_size, limit) for piece in pieces]

        def steps(epochs: int) -> int:
            return sum(-(-b // accumulation) for b in batches(epochs))

        epochs = trainer.max_epochs
        if epochs == -1:
            if max_steps == -1:
                raise ValueError("max_epochs is -1 and max_steps is not set: pruning plans a run; set one of them")
            epochs = epochs_for(pruner.schedule, pruner.n, max_steps * accumulation * self._step_examples)
            check_batches(trainer, loader, batches(epochs))
            while steps(epochs) < max_steps:
                epochs += -(-epochs // 8)
        check_batches(trainer, loader, batches(epochs))
        # For schedules, until training starts; a tuner may be trying steps of its own.
        if trainer.max_steps == max_steps:
            total = steps(epochs)
            trainer.fit_loop.epoch_loop.max_steps = total if max_steps == -1 else min(total, max_steps)
        return epoch_pieces(pruner.phases(epochs))

    def _resume(self, pruner: DynamicPruner, state: Mapping[str, Any]) -> None:
        if state["version"] != VERSION:
            raise UsageError(f"the pruning state is of version {state['version']}, this fastprune reads {VERSION}")
        if self.seed is None:
            pruner.reset(int(state["pruner"]["sampler"]["seed"]))
        try:
            pruner.check_state(state["pruner"])
        except ValueError as error:
            raise UsageError(str(error)) from None
        epoch, position = state["pruner"]["sampler"]["epoch"], state["pruner"]["sampler"]["yielded"]
        if 0 < position < len(pruner.sampler.pieces[epoch]) and state["step_examples"] != self._step_examples:
            raise UsageError(
                f"the checkpoint was made inside an epoch, in steps of {state['step_examples']} examples over all "
                f"processes; this run takes {self._step_examples}: resume with the same batch size and number of "
                "processes, or from the end of an epoch"
            )
        pruner.load_state_dict(state["pruner"])
        pruner.position = position
        self._indices = _own_indices(pruner)

    def _before_fetch(self, original: Callable[[], None]) -> None:
        """In place of the loop's: called before each batch is read."""
        self._restore_random_state()
        self._fetched = True
        original()

    def _restore_random_state(self) -> None:
        """Before the first batch of a resumed run, behind all that Lightning has drawn to get there.

        Loaders of the run that saved the state drew after it: those of a validation that was due and is not made up
        for, and the train loader if an epoch began, once more where it was set up again for another length.
        """
        pruner, loader, state = self.pruner, self._loader, self._state
        if self._fetched or state is None:
            return
        assert pruner is not None and loader is not None
        rank, world_size = world()
        if len(state["random"]) != world_size:
            return
        pieces, epoch, saved = pruner.sampler.pieces, pruner.sampler.epoch, state["pruner"]["sampler"]
        begun = 0
        if epoch > 0 and not loader.persistent_workers and (saved["epoch"] < epoch or saved["yielded"] == 0):
            begun = 1 + (len(pieces[epoch]) != len(pieces[epoch - 1]))
        set_random_state(state["random"][rank], self._device)
        draw_seeds(state["seeds_due"] + begun * seeds_of([loader]))

    def _try_pass(self, trainer: Any) -> None:
        """Score the first batch of the next pass: what cannot work fails before the first training step."""
        pruner, loader = self.pruner, self._loader
        assert pruner is not None and loader is not None
        if pruner.expects_pass:
            reads = pruner.method.reads
            pruner.try_scores(lambda index: self.scoring.first_of_pass(trainer, loader, index, reads))

    def _next_epoch(self, trainer: Any, epoch: int) -> None:
        """Move to ``epoch``; score and select if a cycle starts there."""
        pruner, loader = self.pruner, self._loader
        assert pruner is not None and loader is not None
        before = len(pruner.sampler)
        self._restore_random_state()  # a pass reads the data, which may draw, too
        if pruner.needs_pass(pruner.sampler.pieces[epoch].phase):
            reads = pruner.method.reads
            pruner.rescore(lambda index: self.scoring.scoring_pass(trainer, loader, index, reads))
        pruner.start_piece(epoch)
        # What loaders read ahead of training is no progress.
        pruner.position = 0
        self._indices = _own_indices(pruner)
        if len(pruner.sampler) != before:
            _set_up_again(trainer)

    def _leave_epoch(self, trainer: Any) -> None:
        """Let Lightning begin the next epoch at its first batch, though it is longer, and workers have read ahead."""
        assert self._loader is not None
        _set_up_again(trainer)
        # Lightning leaves the restored epoch if so many batches are done as the next one has.
        done = trainer.fit_loop.epoch_loop.batch_progress.current
        done.completed = max(done.completed, len(self._loader))

    def _training_step(self, original: Callable[..., Any], batch: Any, *args: Any, **kwargs: Any) -> Any:
        """Score the first pass over a batch: a closure may be called again, at weights that are no step's."""
        outputs = original(batch, *args, **kwargs)
        if self._awaits_scores and outputs is not None:
            found = dict(outputs) if isinstance(outputs, Mapping) else {"loss": outputs}
            loss = found.get("loss")
            if isinstance(loss, Tensor):
                found["loss"] = loss.detach()
            self._scores = self._step_scores(found, batch, self._index)
        self._awaits_scores = False
        return outputs

    def _step_scores(self, outputs: Any, batch: Any, index: Tensor) -> Mapping[str, Tensor]:
        assert self.pruner is not None
        method = self.pruner.method
        if self.scoring.score_fn is None and set(outputs) == {"loss"}:
            raise ValueError(
                f"training_step returns the loss alone, and method {method.name!r} reads scores off its logits: "
                'return {"loss": loss, "logits": logits}, pass score_fn, or take method="el2n", which makes a pass of '
                "its own"
            )
        scores = self.scoring.of_batch(outputs, batch, method.reads)
        found = without_owners(index, scores)
        if found is not None:
            raise ValueError(
                f"{found}: a collate_fn that "
                'drops examples leaves scores without owners; keep them, or take method="el2n", which makes a pass of '
                "its own"
            )
        return scores


def _own_indices(pruner: DynamicPruner) -> Tensor:
    """What this process reads of the current epoch, in order, when it starts at its beginning."""
    return pruner.sampler.shard(*world()).indices_from(0)


def _loaders_due(trainer: Any) -> list[Any]:
    """The loaders of the validation that follows the batch that has just been trained on; none if none does."""
    loop = trainer.fit_loop.epoch_loop
    if not loop._should_check_val_fx(trainer.fit_loop._data_fetcher) or loop.val_loop._combined_loader is None:
        return []
    return loop.val_loop._combined_loader.flattened


def _set_up_again(trainer: Any) -> None:
    """Let Lightning ask for the train loader once more before the next epoch."""
    trainer.reload_dataloaders_every_n_epochs = 1
    trainer.fit_loop._last_train_dl_reload_epoch = float("-inf")
