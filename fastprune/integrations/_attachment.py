"""The overrides of one Trainer's run: its plan, its epochs and its checkpoints."""

from __future__ import annotations

import copy
import inspect
import logging
import math
import os
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import TrainerControl, TrainerState

from fastprune.errors import UsageError
from fastprune.integrations._checkpoint import (
    delete_older,
    keep_arguments,
    newest_complete,
    read_state,
    unmark,
    write_state,
)
from fastprune.integrations._datasets import fingerprint
from fastprune.integrations._epochs import UserEpochs
from fastprune.integrations._hooks import override
from fastprune.integrations._order import RecordedOrder, sampling_strategy
from fastprune.integrations._run import Run, batches_of, cut_steps, steps_of, unfit
from fastprune.integrations._trainer_scores import Scoring, TrainerScores
from fastprune.integrations._training_step import TrainingStep
from fastprune.pruning import Budget, DynamicPruner, Piece
from fastprune.pruning.chunks import chunk_pieces
from fastprune.pruning.schedule import epochs_for

logger = logging.getLogger(__name__)

Control = TrainerControl
Fire = Callable[[str], Control]


class Attachment:
    """The overrides of one trainer."""

    def __init__(self, trainer: Any, pruner: DynamicPruner, seed: int | None, scoring: Scoring) -> None:
        self._trainer = weakref.ref(trainer)
        self.pruner = pruner
        self.seed = seed
        self.dataset = trainer.train_dataset
        self.scores = TrainerScores(trainer, scoring, pruner.method.reads)
        self.step = TrainingStep(trainer, pruner, self.scores)
        self.training = False
        self.resume_from: str | None = None
        self.trial: Any = None

    @property
    def run(self) -> Run | None:
        """The call of the training loop that goes on, None outside."""
        return self.step.run

    @property
    def trainer(self) -> Any:
        """The trainer, which lives as long as its hooks are called."""
        return self._trainer()

    def install(self) -> None:
        """Override the trainer's hooks on the instance."""
        trainer = self.trainer
        trainer._fastprune = self.pruner
        override(trainer, "train", self._train)
        override(trainer, "_inner_training_loop", self._training_loop)
        override(trainer, "_get_train_sampler", self._train_sampler)
        override(trainer, "set_initial_training_values", self._training_values)
        override(trainer, "_save_checkpoint", self._save_checkpoint)
        override(trainer.callback_handler, "call_event", self._event)
        self.step.install()

    # --- a run ---------------------------------------------------------------------------------

    def _train(
        self, original: Callable[..., Any], resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        if resume_from_checkpoint is True:
            resume_from_checkpoint = newest_complete(self.trainer.args.output_dir)
        return original(resume_from_checkpoint, *args, **kwargs)

    def _training_loop(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(original).bind(*args, **kwargs).arguments
        self.resume_from, self.trial = given.get("resume_from_checkpoint"), given.get("trial")
        # After running out of memory, auto_find_batch_size comes by again, and the run starts afresh.
        self.training = True
        self.step.begin(None)
        try:
            return original(*args, **kwargs)
        finally:
            self.training = False
            self.step.begin(None)

    def _train_sampler(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        # accelerate would make its seedable sampler now: the random state's seed is the one it would take.
        # Who asks for another loader while the run goes on, such as a callback, does not begin it again.
        if not self.training or self.run is not None:
            return original(*args, **kwargs)
        run, own_order = self._begin(), None
        if self.pruner.schedule.keeps_all and sampling_strategy(self.trainer.args) == "group_by_length":
            # That sampler draws from the global generator, which no other order could leave as it does.
            own_order = RecordedOrder(original(*args, **kwargs))
        self.step.begin(run, own_order)
        return self.pruner.sampler if own_order is None else own_order

    def _begin(self) -> Run:
        """Plan the run; go back to its start, or to the checkpoint."""
        trainer, pruner, args = self.trainer, self.pruner, self.trainer.args
        self._check_dataset()
        pieces = self._plan()
        state = None if self.resume_from is None else read_state(self.resume_from)
        pruner.reset(self._run_seed(state))
        pruner.plan(pieces)
        if state is None:
            pruner.start_piece(0)
        else:
            self._check_chunks(state, pieces)
            pruner.load_state_dict(state["pruner"])
            pruner.sampler.rewind()  # the Trainer skips the batches of a resumed chunk itself
        batch = trainer._train_batch_size
        batches = batches_of(len(pieces[0]), batch, args)
        run = Run(pieces, UserEpochs(pieces), batch * args.world_size, batches, steps_of(batches, args))
        self._advise(run)
        return run

    def _check_dataset(self) -> None:
        """Scores and order belong to the examples that were there when fastprune was attached."""
        dataset, pruner = self.trainer.train_dataset, self.pruner
        if len(dataset) != pruner.n:
            raise ValueError(
                f"train_dataset has {len(dataset)} examples, it had {pruner.n} when fastprune "
                "was attached; attach to a new Trainer with this data set"
            )
        if dataset is self.dataset or (pruner.fingerprint is not None and fingerprint(dataset) == pruner.fingerprint):
            return
        raise ValueError(
            f"train_dataset ({type(dataset).__name__}) is not the one that fastprune was attached to; attach to a new "
            "Trainer with this data set, or put the first one back"
        )

    def _check_chunks(self, state: Mapping[str, Any], pieces: list[Piece]) -> None:
        """Refuse a checkpoint whose run was cut into other chunks or steps."""
        if state["step"] != self._step:  # the Trainer finds its place by the number of steps
            raise UsageError(
                f"the checkpoint was made in optimizer steps of {state['step']} examples on all processes, this run "
                f"takes {self._step}; resume with the same per_device_train_batch_size, gradient_accumulation_steps "
                "and number of processes"
            )
        if state["chunk"] != len(pieces[0]):
            raise UsageError(
                f"the checkpoint was made in chunks of {state['chunk']} examples, this run would use "
                f"{len(pieces[0])}; resume with the same num_train_epochs, max_steps and batch size"
            )

    def _advise(self, run: Run) -> None:
        args = self.trainer.args
        advice = unfit(min(p.phase.size for p in run.pieces), self.pruner.n, args, self.trainer._train_batch_size)
        if advice is not None and args.process_index == 0:
            logger.warning(advice)
        if args.dataloader_num_workers > 0 and not args.dataloader_persistent_workers and not run.epochs.aligned:
            logger.warning(
                "data loader workers start anew for every chunk of %d examples; set dataloader_persistent_workers=True",
                len(run.pieces[0]),
            )

    def _plan(self) -> list[Piece]:
        """Chunks for num_train_epochs user epochs, or for enough of them to make max_steps steps."""
        args, batch, step = self.trainer.args, self.trainer._train_batch_size, self._step

        def cut(epochs: int) -> list[Piece]:
            return chunk_pieces(self.pruner.phases(epochs), step, batch * args.world_size)

        if args.max_steps <= 0:
            if not 0 < args.num_train_epochs < math.inf:
                raise ValueError(f"num_train_epochs must be > 0 when pruning, got {args.num_train_epochs!r}")
            if self._ends_within_an_epoch and isinstance(self.pruner.schedule.keep_fraction, Budget):
                raise ValueError(
                    "a Budget is a share of whole epochs, which num_train_epochs="
                    f"{args.num_train_epochs!r} cuts; set it to {math.ceil(args.num_train_epochs)}, or keep_fraction "
                    "to a number"
                )
            pieces = cut(math.ceil(args.num_train_epochs))
        else:
            if isinstance(self.pruner.schedule.keep_fraction, Budget):
                raise ValueError("a Budget is a share of num_train_epochs, which max_steps overrides; set one of them")
            epochs = epochs_for(self.pruner.schedule, self.pruner.n, args.max_steps * step)
            pieces = cut(epochs)
        shortest = min(map(len, pieces))
        if not batches_of(shortest, batch, args):
            raise ValueError(
                f"dataloader_drop_last leaves nothing of a chunk of {shortest} examples in batches of "
                f"{batch} for each of {args.world_size} processes; set it to False or lower per_device_train_batch_size"
            )
        while self._steps_of(pieces) < args.max_steps:
            epochs += -(-epochs // 8)
            pieces = cut(epochs)
        return pieces

    @property
    def _ends_within_an_epoch(self) -> bool:
        """Whether num_train_epochs, which counts, is no whole number."""
        args = self.trainer.args
        return args.max_steps <= 0 and args.num_train_epochs != int(args.num_train_epochs)

    @property
    def _step(self) -> int:
        """Examples of an optimizer step, on all processes."""
        args = self.trainer.args
        return self.trainer._train_batch_size * args.world_size * args.gradient_accumulation_steps

    def _steps_of(self, pieces: list[Piece]) -> int:
        args = self.trainer.args
        batches = batches_of(len(pieces[0]), self.trainer._train_batch_size, args)
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
        if not self._ends_within_an_epoch:
            args.num_train_epochs = len(run.pieces)
        elif not run.epochs.aligned:
            args.max_steps = cut_steps(args.num_train_epochs, run, self._step)
        values = list(original(args, *rest, **kwargs))
        if args.max_steps <= 0:
            values[3] = run.epochs.starts[-1]  # else epochs times the data set's size, for the throughput it reports
        run.steps = values[1]
        self._tell_steps(values[6])
        return tuple(values)

    def _tell_steps(self, steps: int) -> None:
        """A scheduler that the user built ends where it was told, and pruning makes the run shorter."""
        trainer, args = self.trainer, self.trainer.args
        own = trainer.lr_scheduler is not None and not trainer._created_lr_scheduler
        if own and args.max_steps <= 0 and not self.pruner.schedule.keeps_all and trainer.is_world_process_zero():
            logger.warning(
                "the lr_scheduler is your own, and this pruned run takes %d optimizer steps: build it for %d "
                "steps, or leave it to the Trainer",
                steps,
                steps,
            )

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
        run.completed = run.epochs.completed(run.position)
        run.number, run.skip = run.number - 1, run.micro
        state.num_train_epochs = run.user_epochs
        control = fire("on_train_begin")
        self._try_scores()
        return control

    def on_epoch_begin(self, run: Run, state: TrainerState, control: Control, fire: Fire) -> Control:
        """A chunk begins: select if it starts a cycle."""
        run.number, run.micro, run.skip = run.number + 1, run.skip, 0
        self._start_chunk(run)
        return self._open_epoch(run, control, fire)

    def on_step_begin(self, run: Run, state: TrainerState, control: Control, fire: Fire) -> Control:
        """A user epoch may begin in the middle of a chunk."""
        self._open_epoch(run, control, fire)
        control = fire("on_step_begin")
        run.awaits_scores = True
        return control

    def on_substep_end(self, run: Run, state: TrainerState, control: Control, fire: Fire) -> Control:
        """Count the micro-batch; the next one of the same step follows."""
        run.micro += 1
        control = fire("on_substep_end")
        run.awaits_scores = True
        return control

    def on_step_end(self, run: Run, state: TrainerState, control: Control, fire: Fire) -> Control:
        """Count, tell the time in user epochs, and end a user epoch that ends before the chunk does."""
        run.micro, run.awaits_scores = run.micro + 1, False
        done = run.epochs.completed(run.position)
        if not run.epochs.aligned:
            state.epoch = float(done) if done > run.completed else run.epochs.at(run.position)
        control = fire("on_step_end")
        if done > run.completed and run.micro < run.batches:
            control = self._close_epoch(run, done, fire)
        elif done > run.completed and control.should_save and not self.pruner.schedule.keeps_all:
            # At the end of the epoch, a moment later, it is evaluated first: a run resumed from a checkpoint
            # written before would miss the evaluation, and the random numbers its loader draws.
            control.should_save, run.save_late = False, True
        return control

    def on_epoch_end(self, run: Run, state: TrainerState, control: Control, fire: Fire) -> Control:
        """A chunk is over, or training stops inside it; a user epoch ends only if it is over, too."""
        if not control.should_training_stop:
            run.micro = run.batches
        done = run.epochs.completed(run.position)
        if run.save_late:
            control.should_save, run.save_late = True, False
        if done > run.completed or (control.should_training_stop and run.epoch_open):
            return self._close_epoch(run, done, fire)
        return control

    def on_train_end(self, run: Run, state: TrainerState, control: Control, fire: Fire) -> Control:
        """The last scores belong to the history of every process."""
        self.pruner.exchange()
        return fire("on_train_end")

    def _save_checkpoint(self, original: Callable[..., Any], model: Any, trial: Any, *args: Any, **kwargs: Any) -> Any:
        """Put the pruning state into the checkpoint, last, and only then let older ones go."""
        run, trainer = self.run, self.trainer
        if run is None:
            return original(model, trial, *args, **kwargs)
        output_dir = trainer._get_output_dir(trial=trial)
        folder = os.path.join(output_dir, f"checkpoint-{trainer.state.global_step}")
        self.pruner.exchange()
        if trainer.args.should_save:
            unmark(folder)
        limit, trainer.args.save_total_limit = trainer.args.save_total_limit, None
        try:
            result = original(model, trial, *args, **kwargs)
        finally:
            trainer.args.save_total_limit = limit
        # Every process writes its random state; the mark says that all have.
        trainer.accelerator.wait_for_everyone()
        if trainer.args.should_save:
            if os.path.isdir(folder):
                keep_arguments(trainer.args, folder)
                chunks = {"chunk": len(run.pieces[0]), "step": self._step}
                write_state({**chunks, "pruner": self.pruner.state_dict()}, folder)
            delete_older(trainer, output_dir)
        return result

    def _try_scores(self) -> None:
        """Score one batch, as training steps or the first pass will: what cannot work fails before the first step."""
        if self.pruner.method.observes:
            self.pruner.try_scores(self.step.trial)
            return
        with self.step.unweighted():
            self.pruner.try_scores(self.scores.first_of_pass)

    def _open_epoch(self, run: Run, control: TrainerControl, fire: Fire) -> TrainerControl:
        if run.epoch_open:
            return control
        run.epoch_open = True
        return fire("on_epoch_begin")

    def _close_epoch(self, run: Run, done: int, fire: Fire) -> TrainerControl:
        """End the epochs up to ``done``: a step that is larger than they are may end several."""
        for _ in range(run.completed + 1, done):
            fire("on_epoch_end")
            fire("on_epoch_begin")
        run.completed, run.epoch_open = done, False
        return fire("on_epoch_end")

    def _start_chunk(self, run: Run) -> None:
        pruner, piece = self.pruner, run.pieces[run.number]
        if pruner.needs_pass(piece.phase):
            self._check_dataset()
            with self.step.unweighted():
                pruner.rescore(self.scores.scoring_pass)
        pruner.start_piece(run.number)
        pruner.position = run.in_chunk
        run.batch_indices = None
        if piece.phase.index > 0 and piece.start == 0 and run.micro == 0:
            self.trainer.log({key: value for key, value in pruner.log().items() if math.isfinite(value)})
