"""Dynamic pruning inside an unmodified Hugging Face ``Trainer``, 4.50 to 5.x.

``attach`` overrides five attributes of one Trainer *instance*; nothing global is patched:

* ``_inner_training_loop``: a run begins and ends here, and which checkpoint it resumes is known here;
* ``_get_train_sampler``: hands out the pruning sampler, planned for this run;
* ``set_initial_training_values``: the Trainer, which freezes the length of an epoch, counts chunks as epochs;
* ``callback_handler.call_event``: callbacks see the user's epochs, not the chunks, and cycles start here;
* ``compute_loss``: the logits of the training step become scores (methods that learn from it only).
"""

from __future__ import annotations

import copy
import functools
import inspect
import logging
import math
import os
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

try:
    from tqdm.auto import tqdm
    from transformers import Trainer, TrainerControl, TrainerState
except ImportError as error:
    raise ImportError("fastprune.attach needs transformers: pip install 'fastprune[hf]'") from error

from fastprune.errors import UsageError
from fastprune.integrations._checkpoint import read_state, write_state
from fastprune.integrations._datasets import fingerprint, is_hub_dataset, lengths
from fastprune.integrations._epochs import UserEpochs
from fastprune.integrations._outputs import default_scores
from fastprune.integrations._run import Run, batches_of, correct, steps_of
from fastprune.pruning import DynamicPruner, Method, Piece, score_dataset
from fastprune.pruning.schedule import chunk_pieces, epochs_for

logger = logging.getLogger(__name__)

ScoreFn = Callable[[Any, Mapping[str, Any]], Tensor | Mapping[str, Tensor]]
Control = TrainerControl
Fire = Callable[[str], Control]


def attach(
    trainer: Trainer,
    *,
    keep_fraction: float,
    warmup_epochs: int = 1,
    cycle_epochs: int = 1,
    method: str | Method = "el2n",
    seed: int | None = None,
    score_fn: ScoreFn | None = None,
    score_batch_size: int | None = None,
) -> DynamicPruner:
    """Make ``trainer.train()`` prune its training set while it trains.

    ``num_train_epochs`` keeps its meaning: passes over all examples during the warm-up, then over the kept
    ones; an explicit ``max_steps`` wins.  Evaluation, saving and logging by epoch, ``on_epoch_end`` of
    callbacks and the logged ``epoch`` follow these epochs.  The learning rate ends where it would.
    Checkpoints hold the pruning state, and ``resume_from_checkpoint`` goes on exactly.  Logged as ``prune/*``
    at each new cycle.

    Args:
        trainer: with a map-style ``train_dataset``, random sampling, in one process.
        keep_fraction: share of the examples kept after the warm-up, in (0, 1].  At 1.0 nothing changes: same
            order, same random numbers, same weights as without ``attach``.
        warmup_epochs: epochs on all examples first.
        cycle_epochs: epochs between two selections.
        method: a registered name (``fastprune methods``) or a `Method`.  "el2n" is the paper's, with a
            scoring pass before each cycle; "el2n-free" reads the scores off the training steps.
        seed: of the order and of random selections; by default the Trainer's (``data_seed``, else ``seed``).
        score_fn: ``(outputs, inputs) -> (B,)`` scores or a dict of them by metric, in place of the default
            for models with one head.  Receives what ``compute_loss(return_outputs=True)`` and the collator
            return; called without gradients.
        score_batch_size: of the scoring pass; by default 4 × ``per_device_train_batch_size``.

    Returns:
        The pruner, for ``pruner.kept_indices``, ``pruner.history`` and ``pruner.log()``.

    Raises:
        TypeError: ``trainer`` is no ``transformers.Trainer``.
        ValueError: the trainer is set up in a way that does not go with pruning; the message says which.

    Cost: the history (12 bytes an example) and, for "el2n", one forward pass over the data a cycle.
    """
    _check(trainer)
    dataset: Any = trainer.train_dataset
    pruner = DynamicPruner(
        len(dataset),
        keep_fraction=keep_fraction,
        warmup_epochs=warmup_epochs,
        cycle_epochs=cycle_epochs,
        method=method,
        seed=trainer.args.seed if seed is None else seed,
        fingerprint=fingerprint(dataset),
    )
    _Attachment(trainer, pruner, seed, score_fn, score_batch_size).install()
    return pruner


def _check(trainer: Trainer) -> None:
    """Refuse what this version cannot do, naming the argument and the way out."""
    if not isinstance(trainer, Trainer):
        raise TypeError(f"trainer must be a transformers.Trainer, got {type(trainer).__name__}")
    args, dataset = trainer.args, trainer.train_dataset
    if getattr(trainer, "_fastprune", None) is not None:
        raise ValueError("fastprune is attached to this trainer already; attach once, or build a new Trainer")
    if dataset is None:
        raise ValueError("trainer has no train_dataset; pass train_dataset=... to Trainer")
    by_index = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    if isinstance(dataset, IterableDataset) or not by_index:
        raise ValueError(
            f"train_dataset is a stream ({type(dataset).__name__}): its examples cannot be read by index; "
            "pass a map-style data set (datasets: load_dataset(..., streaming=False))"
        )
    if args.world_size > 1:
        raise ValueError(f"world_size is {args.world_size}: attach works in one process; start without torchrun")
    strategy = "group_by_length" if getattr(args, "group_by_length", False) else None
    strategy = strategy or getattr(args, "train_sampling_strategy", "random")
    if strategy != "random":
        raise ValueError(
            f"train_sampling_strategy is {strategy!r}, but pruning decides the order; set it to 'random' "
            "(group_by_length=False before transformers 5)"
        )
    if type(trainer)._get_train_sampler is not Trainer._get_train_sampler:
        raise ValueError(
            f"{type(trainer).__name__} overrides _get_train_sampler, but pruning decides the order; "
            "attach to a Trainer without a sampler of its own"
        )
    if not getattr(args.accelerator_config, "use_seedable_sampler", True):
        logger.warning(
            "accelerator_config has use_seedable_sampler=False: fastprune's order is reproducible all the same, "
            "so even with keep_fraction=1.0 it is not that of the Trainer alone"
        )


class _Attachment:
    """The overrides of one trainer."""

    def __init__(
        self,
        trainer: Trainer,
        pruner: DynamicPruner,
        seed: int | None,
        score_fn: ScoreFn | None,
        score_batch_size: int | None,
    ) -> None:
        self._trainer = weakref.ref(trainer)
        self.pruner = pruner
        self.seed = seed
        self.score_fn = score_fn
        self.score_batch_size = score_batch_size
        self.training = False
        self.resume_from: str | None = None
        self.trial: Any = None
        self.run: Run | None = None

    @property
    def trainer(self) -> Any:
        """The trainer, which lives as long as its hooks are called."""
        return self._trainer()

    def install(self) -> None:
        """Override the trainer's hooks on the instance."""
        trainer = self.trainer
        trainer._fastprune = self.pruner
        self.plain_loss = _weak(trainer, "compute_loss")
        _override(trainer, "_inner_training_loop", self._training_loop)
        _override(trainer, "_get_train_sampler", self._train_sampler)
        _override(trainer, "set_initial_training_values", self._training_values)
        _override(trainer.callback_handler, "call_event", self._event)
        if self.pruner.method.observes:
            _override(trainer, "compute_loss", self._compute_loss)

    # --- a run ---------------------------------------------------------------------------------

    def _training_loop(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(original).bind(*args, **kwargs).arguments
        self.resume_from, self.trial = given.get("resume_from_checkpoint"), given.get("trial")
        self.training, self.run = True, None
        try:
            return original(*args, **kwargs)
        finally:
            self.training, self.run = False, None

    def _train_sampler(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        # accelerate would make its seedable sampler now: the random state's seed is the one it would take.
        # After running out of memory, auto_find_batch_size comes by again, and the run starts afresh.
        if not self.training:
            return original(*args, **kwargs)
        self._begin()
        return self.pruner.sampler

    def _begin(self) -> None:
        """Plan the run; go back to its start, or to the checkpoint."""
        trainer, pruner, args = self.trainer, self.pruner, self.trainer.args
        if len(trainer.train_dataset) != pruner.n:
            raise ValueError(
                f"train_dataset has {len(trainer.train_dataset)} examples, it had {pruner.n} when fastprune "
                "was attached; attach to a new Trainer with this data set"
            )
        pieces = self._plan()
        state = None if self.resume_from is None else read_state(self.resume_from)
        pruner.reset(self._run_seed(state))
        pruner.plan(pieces)
        if state is None:
            pruner.start_piece(0)
        else:
            if state["chunk"] != len(pieces[0]):
                raise UsageError(
                    f"the checkpoint was made in chunks of {state['chunk']} examples, this run would use "
                    f"{len(pieces[0])}; resume with the same num_train_epochs, max_steps and batch size"
                )
            pruner.load_state_dict(state["pruner"])
            pruner.sampler.rewind()  # the Trainer skips the batches of a resumed chunk itself
        chunk, batch = len(pieces[0]), trainer._train_batch_size
        batches = batches_of(chunk, batch, args.dataloader_drop_last)
        self.run = Run(pieces, UserEpochs(pieces), batch, batches, steps_of(batches, args))
        if not self.run.epochs.aligned:
            self._advise(chunk, batch * args.gradient_accumulation_steps)

    def _advise(self, chunk: int, step: int) -> None:
        if chunk < step:
            logger.warning(
                "pruning reads this data in chunks of %d examples, so steps are smaller than the %d you asked "
                "for; lower per_device_train_batch_size, or keep more",
                chunk,
                step,
            )
        args = self.trainer.args
        if args.dataloader_num_workers > 0 and not args.dataloader_persistent_workers:
            logger.warning(
                "data loader workers start anew for every chunk of %d examples; set dataloader_persistent_workers=True",
                chunk,
            )

    def _plan(self) -> list[Piece]:
        """Chunks for num_train_epochs user epochs, or for enough of them to make max_steps steps."""
        args, batch = self.trainer.args, self.trainer._train_batch_size
        step = batch * args.gradient_accumulation_steps
        if args.max_steps <= 0:
            if args.num_train_epochs < 1 or args.num_train_epochs != int(args.num_train_epochs):
                raise ValueError(
                    "num_train_epochs must be a whole number >= 1 when pruning, got "
                    f"{args.num_train_epochs!r}; set max_steps to train for a part of an epoch"
                )
            pieces = chunk_pieces(self.pruner.phases(int(args.num_train_epochs)), step)
        else:
            epochs = epochs_for(self.pruner.schedule, self.pruner.n, args.max_steps * step)
            pieces = chunk_pieces(self.pruner.phases(epochs), step)
        if not self._steps_of(pieces):
            raise ValueError(
                f"dataloader_drop_last leaves nothing of a chunk of {len(pieces[0])} examples in batches of "
                f"{batch}; set it to False or lower per_device_train_batch_size"
            )
        while self._steps_of(pieces) < args.max_steps:
            epochs += -(-epochs // 8)
            pieces = chunk_pieces(self.pruner.phases(epochs), step)
        return pieces

    def _steps_of(self, pieces: list[Piece]) -> int:
        args = self.trainer.args
        batches = batches_of(len(pieces[0]), self.trainer._train_batch_size, args.dataloader_drop_last)
        return len(pieces) * steps_of(batches, args)

    def _run_seed(self, state: Mapping[str, Any] | None) -> int:
        if self.seed is not None:
            return self.seed
        if state is not None:
            return int(state["pruner"]["sampler"]["seed"])
        data_seed = self.trainer.args.data_seed
        return torch.initial_seed() if data_seed is None else data_seed

    def _training_values(self, original: Callable[..., Any], args: Any, *rest: Any, **kwargs: Any) -> Any:
        run = self.run
        if run is None:
            return original(args, *rest, **kwargs)
        # A copy: loggers and checkpoints go on seeing the epochs the user asked for.
        args = copy.copy(args)
        args.num_train_epochs = len(run.pieces)
        values = list(original(args, *rest, **kwargs))
        if not run.epochs.aligned:
            correct(values, run, args.max_steps)
        run.steps = values[1]
        return tuple(values)

    # --- events --------------------------------------------------------------------------------

    def _event(
        self,
        original: Callable[..., TrainerControl],
        event: str,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> TrainerControl:
        if self.training and self.run is None:
            raise ValueError(
                f"{type(self.trainer).__name__}.get_train_dataloader does not ask _get_train_sampler for its "
                "sampler; fastprune cannot choose the examples of such a trainer"
            )
        handler = getattr(self, event, None) if self.run is not None else None
        if handler is None:
            return original(event, args, state, control, **kwargs)
        return handler(self.run, state, control, lambda name: original(name, args, state, control, **kwargs))

    def on_train_begin(self, run: Run, state: TrainerState, control: Control, fire: Fire) -> Control:
        """Take up the position of the Trainer, which counts from ``global_step``."""
        args, accumulation = self.trainer.args, self.trainer.args.gradient_accumulation_steps
        run.number, steps = divmod(state.global_step, run.steps)
        run.micro = 0 if args.ignore_data_skip else steps * accumulation
        if run.micro and run.corrected:
            raise UsageError(
                f"this version of transformers cannot resume inside an epoch whose {run.batches} batches do not "
                f"divide into steps of {accumulation}: it loses the last step; resume a checkpoint from the end "
                "of an epoch, or with transformers >= 4.52"
            )
        run.completed = run.epochs.completed(run.position)
        run.number, run.skip = run.number - 1, run.micro
        state.num_train_epochs = run.user_epochs
        return fire("on_train_begin")

    def on_epoch_begin(self, run: Run, state: TrainerState, control: Control, fire: Fire) -> Control:
        """A chunk begins: select if it starts a cycle."""
        run.number, run.micro, run.skip = run.number + 1, run.skip, 0
        self._start_chunk(run)
        return self._open_epoch(run, control, fire)

    def on_step_begin(self, run: Run, state: TrainerState, control: Control, fire: Fire) -> Control:
        """A user epoch may begin in the middle of a chunk."""
        self._open_epoch(run, control, fire)
        return fire("on_step_begin")

    def on_substep_end(self, run: Run, state: TrainerState, control: Control, fire: Fire) -> Control:
        """Count the micro-batch."""
        run.micro += 1
        return fire("on_substep_end")

    def on_step_end(self, run: Run, state: TrainerState, control: Control, fire: Fire) -> Control:
        """Count, tell the time in user epochs, and end a user epoch that ends before the chunk does."""
        run.micro += 1
        done = run.epochs.completed(run.position)
        if not run.epochs.aligned:
            state.epoch = float(done) if done > run.completed else run.epochs.at(run.position)
        control = fire("on_step_end")
        if done > run.completed and run.micro < run.batches:
            control = self._close_epoch(run, done, fire)
        return control

    def on_epoch_end(self, run: Run, state: TrainerState, control: Control, fire: Fire) -> Control:
        """A chunk is over, or training stops inside it; a user epoch ends only if it is over, too."""
        if not control.should_training_stop:
            run.micro = run.batches
        done = run.epochs.completed(run.position)
        if done > run.completed or (control.should_training_stop and run.epoch_open):
            return self._close_epoch(run, done, fire)
        return control

    def on_save(self, run: Run, state: TrainerState, control: Control, fire: Fire) -> Control:
        """Put the pruning state into the checkpoint."""
        output_dir = self.trainer._get_output_dir(trial=self.trial)
        folder = os.path.join(output_dir, f"checkpoint-{state.global_step}")
        if self.trainer.args.should_save and os.path.isdir(folder):
            pruner = self.pruner.state_dict()
            write_state({"chunk": run.epochs.chunk, "pruner": pruner}, folder)
        return fire("on_save")

    def _open_epoch(self, run: Run, control: TrainerControl, fire: Fire) -> TrainerControl:
        if run.epoch_open:
            return control
        run.epoch_open = True
        return fire("on_epoch_begin")

    def _close_epoch(self, run: Run, done: int, fire: Fire) -> TrainerControl:
        run.completed, run.epoch_open = done, False
        return fire("on_epoch_end")

    def _start_chunk(self, run: Run) -> None:
        pruner, piece = self.pruner, run.pieces[run.number]
        if pruner.needs_pass(piece.phase):
            pruner.rescore(self._scoring_pass)
        pruner.start_piece(run.number)
        if pruner.method.observes:
            run.order = pruner.sampler.piece_indices()
        if piece.phase.index > 0 and piece.start == 0 and run.micro == 0:
            self.trainer.log({key: value for key, value in pruner.log().items() if math.isfinite(value)})

    # --- scores --------------------------------------------------------------------------------

    def _compute_loss(
        self,
        original: Callable[..., Any],
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        **kwargs: Any,
    ) -> Any:
        if self.run is None or not model.training:
            return original(model, inputs, return_outputs=return_outputs, **kwargs)
        fields = self._with_own_labels(inputs)
        loss, outputs = _loss_and_outputs(original(model, inputs, return_outputs=True, **kwargs))
        with torch.no_grad():
            scores = self._batch_scores(outputs, fields)
        self.pruner.observe(self._batch_index(self.run, scores), scores)
        return (loss, outputs) if return_outputs else loss

    def _with_own_labels(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The batch as it is now: computing the loss may take labels out of it, or change them in place."""
        names = self.trainer.label_names
        return {k: v.clone() if k in names and isinstance(v, Tensor) else v for k, v in inputs.items()}

    def _batch_index(self, run: Run, scores: Mapping[str, Tensor]) -> Tensor:
        """Which examples the current micro-batch holds follows from its position in the sampler's order."""
        assert run.order is not None
        index = run.order[run.micro * run.batch_size : (run.micro + 1) * run.batch_size]
        sizes = {len(values) for values in scores.values()}
        if sizes != {len(index)}:
            raise RuntimeError(
                f"batch {run.micro} of this chunk should hold {len(index)} examples, its scores are for "
                f"{sorted(sizes)}: the batches are not those of the sampler (a batch sampler or a collator of "
                "your own?), so scores find no example; use method='el2n', which scores in a pass of its own"
            )
        return index

    def _batch_scores(self, outputs: Any, inputs: Mapping[str, Any]) -> Mapping[str, Tensor]:
        trainer, reads = self.trainer, self.pruner.method.reads
        if self.score_fn is None:
            return default_scores(outputs, inputs, reads, trainer.label_names, trainer.model)
        scores = self.score_fn(outputs, inputs)
        return scores if isinstance(scores, Mapping) else dict.fromkeys(reads, scores)

    def _scoring_pass(self, index: Tensor) -> dict[str, Tensor]:
        """One forward pass over ``index``, on the Trainer's model, data, collator and precision."""
        trainer, reads = self.trainer, self.pruner.method.reads
        dataset, collate = trainer.train_dataset, trainer.data_collator
        if is_hub_dataset(dataset):
            dataset = trainer._remove_unused_columns(dataset, description="scoring")
        else:
            collate = trainer._get_collator_with_removed_columns(collate, description="scoring")

        def score_batch(batch: Any) -> Tensor:
            inputs = trainer._prepare_inputs(batch)
            fields = self._with_own_labels(inputs)
            # As in evaluation: a subclass that takes fields of its own out of the batch does so here, too.
            with trainer.compute_loss_context_manager():
                _, outputs = _loss_and_outputs(self.plain_loss(trainer.model, inputs, return_outputs=True))
            scores = self._batch_scores(outputs, fields)
            return torch.stack([scores[metric].float() for metric in reads], dim=-1)

        with tqdm(total=len(index), desc="Scoring", disable=trainer.args.disable_tqdm, leave=False) as bar:
            columns = score_dataset(
                trainer.model,
                dataset,
                score_batch,
                indices=index,
                lengths=self._lengths,
                batch_size=self.score_batch_size or 4 * trainer.args.per_device_train_batch_size,
                collate_fn=collate,
                progress=bar.update,
            )
        return dict(zip(reads, columns.unbind(-1), strict=True))

    @functools.cached_property
    def _lengths(self) -> Any:
        return lengths(self.trainer.train_dataset)


def _weak(owner: Any, name: str) -> Callable[..., Any]:
    """``owner.name`` without holding ``owner``.

    A cycle would leave the Trainer to the garbage collector, which tears down the queues of persistent data
    loader workers before it stops the workers: five seconds each.
    """
    method = getattr(owner, name)
    if getattr(method, "__self__", None) is not owner:
        return method
    reference = weakref.WeakMethod(method)

    def call(*args: Any, **kwargs: Any) -> Any:
        target = reference()
        assert target is not None
        return target(*args, **kwargs)

    call.__name__, call.__doc__ = name, method.__doc__
    call.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return call


def _override(owner: Any, name: str, hook: Callable[..., Any]) -> None:
    """Call ``hook(original, ...)`` in place of ``owner.name(...)``, on this instance only."""
    original = _weak(owner, name)

    @functools.wraps(original)
    def overriding(*args: Any, **kwargs: Any) -> Any:
        return hook(original, *args, **kwargs)

    setattr(owner, name, overriding)


def _loss_and_outputs(result: Any) -> tuple[Any, Any]:
    if not isinstance(result, tuple) or len(result) != 2:
        raise ValueError(
            "compute_loss(..., return_outputs=True) returned no (loss, outputs); scores need the outputs, so "
            "let your compute_loss honour return_outputs"
        )
    return result
