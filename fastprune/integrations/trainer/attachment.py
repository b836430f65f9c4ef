"""The overrides of one Trainer: its plan, its sampler, its checkpoints and its events."""

from __future__ import annotations

import copy
import inspect
import logging
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerControl, TrainerState

from fastprune.errors import UsageError
from fastprune.integrations.batch_metrics import loggable
from fastprune.integrations.batch_scoring import BatchScoring
from fastprune.integrations.datasets import fingerprint
from fastprune.integrations.hooks import Overrides
from fastprune.integrations.trainer.checkpoint import newest_complete, read_state, save_checkpoint
from fastprune.integrations.trainer.events import TrainerEvents
from fastprune.integrations.trainer.order import RecordedOrder, sampling_strategy
from fastprune.integrations.trainer.scores import TrainerScores
from fastprune.integrations.trainer.step_plan import StepPlan, TrainingValues, ends_within_an_epoch, plan_steps, unfit
from fastprune.integrations.trainer.training_step import TrainingStep
from fastprune.pruning import DynamicPruner
from fastprune.pruning.state import check_method

logger = logging.getLogger(__name__)


class Attachment:
    """The overrides of one trainer.

    Attributes:
        training: whether the Trainer's loop goes on.
        plan: how it reads the run.  None outside of a run, and before its sampler is asked for.
    """

    def __init__(self, trainer: Any, pruner: DynamicPruner, seed: int | None, scoring: BatchScoring) -> None:
        self._trainer = weakref.ref(trainer)
        self.pruner = pruner
        self.driver = pruner.driver
        self.seed = seed
        self.dataset = trainer.train_dataset
        self.scores = TrainerScores(trainer, scoring, pruner.method.reads)
        self.step = TrainingStep(trainer, pruner, self.scores)
        self.overrides = Overrides()
        self.training = False
        self.plan: StepPlan | None = None
        self._events: TrainerEvents | None = None
        self._resume_from: str | None = None

    @property
    def trainer(self) -> Any:
        """The trainer, which lives as long as its hooks are called."""
        return self._trainer()

    def install(self) -> None:
        """Override the trainer's hooks on the instance."""
        trainer, override = self.trainer, self.overrides.add
        trainer._fastprune = self
        override(trainer, "train", self._train)
        override(trainer, "_inner_training_loop", self._training_loop)
        override(trainer, "_get_train_sampler", self._train_sampler)
        override(trainer, "set_initial_training_values", self._training_values)
        override(trainer, "_save_checkpoint", self._save_checkpoint)
        override(trainer.callback_handler, "call_event", self._event)
        self.step.install(self.overrides)

    def remove(self) -> None:
        """Leave the trainer as it was before `install`."""
        self.step.remove()
        self.overrides.remove()
        del self.trainer._fastprune

    # --- a run ---------------------------------------------------------------------------------

    def _train(
        self, original: Callable[..., Any], resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any
    ) -> Any:
        if resume_from_checkpoint is True:
            resume_from_checkpoint = newest_complete(self.trainer.args.output_dir)
        return original(resume_from_checkpoint, *args, **kwargs)

    def _training_loop(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(original).bind(*args, **kwargs).arguments
        self._resume_from = given.get("resume_from_checkpoint")
        # auto_find_batch_size calls this again after running out of memory, and the run starts afresh.
        self._end()
        self.training = True
        try:
            return original(*args, **kwargs)
        finally:
            self._end()

    def _end(self) -> None:
        self.training, self.plan, self._events = False, None, None
        self.step.begin(None)

    def _train_sampler(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        # accelerate would make its seedable sampler now.  The random state's seed is the one that it would take.
        # A callback may request another train loader mid-run.  That must not restart the run.
        if not self.training or self.plan is not None:
            return original(*args, **kwargs)
        plan, own_order = self._begin(), None
        if self.driver.schedule.keeps_all and sampling_strategy(self.trainer.args) == "group_by_length":
            # That sampler draws from the global generator.  Another order would leave it in another state.
            own_order = RecordedOrder(original(*args, **kwargs))
        self._follow(plan, own_order)
        return self.driver.sampler if own_order is None else own_order

    def _begin(self) -> StepPlan:
        """Plan the run, and go to its start or to the checkpoint."""
        args, driver = self.trainer.args, self.driver
        self._check_dataset()
        pieces, plan = plan_steps(driver, args, self.trainer._train_batch_size)
        if self._resume_from is None:
            seed = torch.initial_seed() if args.data_seed is None else args.data_seed
            driver.begin(pieces, seed if self.seed is None else self.seed)
        else:
            state = read_state(self._resume_from)
            check_method(driver, state["pruner"])
            _check_chunks(state, plan.step, len(pieces[0]))
            driver.resume(pieces, state["pruner"], self.seed)
        self._advise()
        return plan

    def _follow(self, plan: StepPlan, own_order: RecordedOrder | None) -> None:
        """Let events and steps be those of this plan from now on."""
        self.plan = plan
        self.step.begin(plan, own_order)
        self._events = TrainerEvents(
            self.trainer.args, self.driver, plan, self.step, self._scoring_pass, self._log_cycle
        )

    def _check_dataset(self) -> None:
        """Refuse a training set that has changed: scores and order belong to the examples at the time of ``attach``."""
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

    def _advise(self) -> None:
        args, progress = self.trainer.args, self.driver.progress
        smallest = min(piece.phase.size for piece in progress.pieces)
        advice = unfit(smallest, self.driver.n, args, self.trainer._train_batch_size)
        if advice is not None and args.process_index == 0:
            logger.warning(advice)
        if args.dataloader_num_workers > 0 and not args.dataloader_persistent_workers and not progress.epochs.aligned:
            logger.warning(
                "data loader workers start anew for every chunk of %d examples; set dataloader_persistent_workers=True",
                len(progress.pieces[0]),
            )

    def _training_values(self, original: Callable[..., Any], args: Any, *rest: Any, **kwargs: Any) -> Any:
        """Let the Trainer plan as many steps as the chunks have, so that the learning rate ends at 0 with the last."""
        plan, progress = self.plan, self.driver.progress
        if plan is None:
            return original(args, *rest, **kwargs)
        # This is a copy, because loggers and checkpoints go on seeing the epochs the user asked for.
        args = copy.copy(args)
        if not ends_within_an_epoch(self.trainer.args):
            args.num_train_epochs = len(progress.pieces)
        elif not progress.epochs.aligned:
            args.max_steps = plan.steps_of_epochs(args.num_train_epochs)
        values = TrainingValues.of(original(args, *rest, **kwargs))
        if args.max_steps <= 0:
            # For the throughput that it reports the Trainer would take epochs times the data set's size.
            values = values._replace(samples=progress.epochs.starts[-1])
        if values.steps_of_epoch != plan.steps:
            self._follow(replace(plan, steps=values.steps_of_epoch), self.step.own_order)
        self._tell_steps(values.max_steps)
        return tuple(values)

    def _tell_steps(self, steps: int) -> None:
        """Log the number of steps if the user built the scheduler, which does not know that the run is shorter."""
        trainer, args = self.trainer, self.trainer.args
        own = trainer.lr_scheduler is not None and not trainer._created_lr_scheduler
        if own and args.max_steps <= 0 and not self.driver.schedule.keeps_all and trainer.is_world_process_zero():
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
        if self.training and self.plan is None:
            raise ValueError(
                f"{type(self.trainer).__name__}.get_train_dataloader does not ask _get_train_sampler for its "
                "sampler; fastprune cannot choose the examples of such a trainer"
            )
        handler = getattr(self._events, event, None)
        if handler is None:
            return original(event, args, state, control, **kwargs)
        if event == "on_epoch_begin" and self.driver.progress.complete and self.driver.wants_scores:
            self._check_dataset()
        control = handler(state, control, lambda name: original(name, args, state, control, **kwargs))
        if event == "on_train_begin":
            self._try_scores()
        return control

    def _scoring_pass(self, index: Tensor) -> Mapping[str, Tensor]:
        with self.step.unweighted():
            return self.scores.scoring_pass(index)

    def _log_cycle(self) -> None:
        self.trainer.log(loggable(self.pruner))

    def _try_scores(self) -> None:
        """Score one batch, as training steps or the first pass will.  What cannot work fails before the first step."""
        if self.driver.method.observes:
            self.driver.try_scores(self.step.trial)
            return
        with self.step.unweighted():
            self.driver.try_scores(self.scores.first_of_pass)

    def _save_checkpoint(self, original: Callable[..., Any], model: Any, trial: Any, *args: Any, **kwargs: Any) -> Any:
        """Put the pruning state into the checkpoint, last, and only then let older ones go."""
        plan, driver = self.plan, self.driver
        if plan is None:
            return original(model, trial, *args, **kwargs)
        driver.exchange()

        def state() -> dict[str, Any]:
            return {"chunk": len(driver.progress.pieces[0]), "step": plan.step, "pruner": driver.state_dict()}

        return save_checkpoint(self.trainer, trial, state, lambda: original(model, trial, *args, **kwargs))


def _check_chunks(state: Mapping[str, Any], step: int, chunk: int) -> None:
    """Refuse a checkpoint whose run was cut into other steps or chunks than of so many examples."""
    if state["step"] != step:  # the Trainer finds its place by the number of steps
        raise UsageError(
            f"the checkpoint was made in optimizer steps of {state['step']} examples on all processes, this run "
            f"takes {step}; resume with the same per_device_train_batch_size, gradient_accumulation_steps "
            "and number of processes"
        )
    if state["chunk"] != chunk:
        raise UsageError(
            f"the checkpoint was made in chunks of {state['chunk']} examples, this run would use "
            f"{chunk}; resume with the same num_train_epochs, max_steps and batch size"
        )
