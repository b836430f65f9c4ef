"""A Trainer's events during one run, translated into the driver's verbs and into the user's epochs.

The Trainer counts chunks as epochs.  Its callbacks see the user's epochs.  ``on_epoch_begin`` and ``on_epoch_end`` are
fired where those begin and end, also in the middle of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerControl, TrainerState

from fastprune.integrations.trainer.step_plan import StepPlan
from fastprune.integrations.trainer.training_step import TrainingStep
from fastprune.pruning.driver import Driver, ScoreIndices

Fire = Callable[[str], TrainerControl]


class TrainerEvents:
    """The events of one call of the training loop.

    Args:
        args: the Trainer's.
        scoring_pass: scores of the examples with these indices, in a pass of its own.
        cycle_begins: called when a cycle has been entered at its first example.

    Attributes:
        epoch_open: callbacks have seen a user epoch begin that has not ended.
        saves_late: a checkpoint is due once the user epoch has been evaluated.
    """

    def __init__(
        self,
        args: Any,
        driver: Driver,
        plan: StepPlan,
        step: TrainingStep,
        scoring_pass: ScoreIndices,
        cycle_begins: Callable[[], None],
    ) -> None:
        self._args, self._driver, self._plan, self._step = args, driver, plan, step
        self._scoring_pass, self._cycle_begins = scoring_pass, cycle_begins
        self.epoch_open = False
        self.saves_late = False

    def on_train_begin(self, state: TrainerState, control: TrainerControl, fire: Fire) -> TrainerControl:
        """Take up the position of the Trainer, which counts from ``global_step``."""
        progress = self._driver.progress
        number, position = self._plan.place_at(state.global_step)
        whole = position == len(progress.pieces[number])
        self._driver.move_to(number, 0 if self._args.ignore_data_skip and not whole else position)
        state.num_train_epochs = progress.planned_epochs
        return fire("on_train_begin")

    def on_epoch_begin(self, state: TrainerState, control: TrainerControl, fire: Fire) -> TrainerControl:
        """A chunk begins, or goes on after a resume.  If it starts a cycle, examples are selected."""
        self._driver.enter_next(self._scoring_pass)
        self._step.forget_batches()
        if self._driver.progress.begins_phase:
            self._cycle_begins()
        return self._open_epoch(control, fire)

    def on_step_begin(self, state: TrainerState, control: TrainerControl, fire: Fire) -> TrainerControl:
        """A user epoch may begin in the middle of a chunk."""
        self._open_epoch(control, fire)
        control = fire("on_step_begin")
        self._step.awaits_scores = True
        return control

    def on_substep_end(self, state: TrainerState, control: TrainerControl, fire: Fire) -> TrainerControl:
        """A batch has been taken in.  The next one of the same step follows."""
        self._advance()
        control = fire("on_substep_end")
        self._step.awaits_scores = True
        return control

    def on_step_end(self, state: TrainerState, control: TrainerControl, fire: Fire) -> TrainerControl:
        """Tell the time in user epochs, and end a user epoch that ends before the chunk does."""
        progress = self._driver.progress
        self._advance()
        self._step.awaits_scores = False
        done = progress.epochs_completed
        ended = done > progress.epochs_closed
        if not progress.epochs.aligned:
            state.epoch = float(done) if ended else progress.user_epoch
        control = fire("on_step_end")
        if ended and not progress.complete:
            control = self._close_epochs(fire)
        elif ended and control.should_save and not self._driver.schedule.keeps_all:
            # Save a moment later, at the end of the epoch, when it has been evaluated.  A run resumed from an
            # earlier checkpoint would miss the evaluation, and the random numbers that its loader draws.
            control.should_save, self.saves_late = False, True
        return control

    def on_epoch_end(self, state: TrainerState, control: TrainerControl, fire: Fire) -> TrainerControl:
        """Leave the chunk.  Close the user epoch if it has ended, too, or if training stops inside it."""
        progress = self._driver.progress
        if not control.should_training_stop:
            self._driver.leave()
        if self.saves_late:
            control.should_save, self.saves_late = True, False
        ended = progress.epochs_completed > progress.epochs_closed
        if ended or (control.should_training_stop and self.epoch_open):
            return self._close_epochs(fire)
        return control

    def on_train_end(self, state: TrainerState, control: TrainerControl, fire: Fire) -> TrainerControl:
        """Give the last scores to the history of every process."""
        self._driver.exchange()
        return fire("on_train_end")

    # --- inside --------------------------------------------------------------------------------

    def _advance(self) -> None:
        number, position = self._driver.progress.piece_number, self._driver.progress.position
        batches = self._plan.batches_until(number, position)
        self._driver.advance(self._plan.position_after(number, batches + 1))

    def _open_epoch(self, control: TrainerControl, fire: Fire) -> TrainerControl:
        if self.epoch_open:
            return control
        self.epoch_open = True
        return fire("on_epoch_begin")

    def _close_epochs(self, fire: Fire) -> TrainerControl:
        """End the epochs that are over, or the one in which training stops.

        A step that is larger than the epochs may end several.
        """
        progress = self._driver.progress
        for _ in range(progress.epochs_closed + 1, progress.epochs_completed):
            self._driver.close_epoch()
            fire("on_epoch_end")
            fire("on_epoch_begin")
        self._driver.close_epoch()
        self.epoch_open = False
        return fire("on_epoch_end")
