"""The overrides of one Trainer's training step: scores read off its logits, and losses weighted."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from fastprune.integrations.batch_metrics import without_owners
from fastprune.integrations.hooks import Overrides
from fastprune.integrations.trainer.fused_loss import FusedLoss
from fastprune.integrations.trainer.order import RecordedOrder, rank_batches
from fastprune.integrations.trainer.passes import Passes
from fastprune.integrations.trainer.readers import Outcome
from fastprune.integrations.trainer.scores import TrainerScores
from fastprune.integrations.trainer.step_plan import StepPlan
from fastprune.integrations.trainer.weighted_loss import TASK_ADVICE, check_agreement, own_losses, weighted_loss
from fastprune.pruning import DynamicPruner
from fastprune.scores.task import ExampleLosses


class TrainingStep:
    """What happens to the batches of one trainer.  Outside of a run they are left alone.

    Attributes:
        plan: of the run that goes on, None outside of one.
        awaits_scores: whether a batch has begun whose first forward pass is still to come.
        batch: the number within its chunk of the batch whose losses are computed now.
    """

    def __init__(self, trainer: Any, pruner: DynamicPruner, scores: TrainerScores) -> None:
        self._trainer = weakref.ref(trainer)
        self.pruner = pruner
        self.driver = pruner.driver
        self.scores = scores
        self.loss_func = trainer.compute_loss_func
        self.weighted = pruner.method.weighted and not pruner.schedule.keeps_all
        self.fused = FusedLoss(trainer) if self.weighted and FusedLoss.is_of(trainer, scores.reader) else None
        self.plan: StepPlan | None = None
        self.own_order: RecordedOrder | None = None
        self.fields: dict[str, Any] = {}
        self.passes = Passes()
        self.awaits_scores = False
        self.batch = 0
        self._batch_indices: list[Tensor] | None = None

    @property
    def trainer(self) -> Any:
        """The trainer, which lives as long as its hooks are called."""
        return self._trainer()

    def install(self, overrides: Overrides) -> None:
        """Override those hooks on the trainer that the method needs."""
        if self.pruner.method.observes:
            overrides.add(self.trainer, "compute_loss", self._compute_loss)
        if self.weighted and self.fused is None:
            self.trainer.compute_loss_func = self._loss

    def remove(self) -> None:
        """Give the trainer its own loss function back.  The owner of ``overrides`` puts those back."""
        if self.weighted and self.trainer.compute_loss_func == self._loss:
            self.trainer.compute_loss_func = self.loss_func

    def begin(self, plan: StepPlan | None, own_order: RecordedOrder | None = None) -> None:
        """Steps of a run follow, in the pruner's order or the Trainer's own.

        Args:
            plan: of the run.  None if no run follows.
            own_order: the Trainer's.
        """
        self.plan, self.own_order, self.awaits_scores = plan, own_order, False
        self.forget_batches()
        self.passes.forget()

    def forget_batches(self) -> None:
        """Another chunk begins, and it has batches of its own."""
        self._batch_indices = None

    @contextmanager
    def unweighted(self) -> Iterator[None]:
        """Let the Trainer's loss be its own inside: in evaluation, and in scoring passes."""
        if not self.weighted or self.fused is not None:
            yield
            return
        self.trainer.compute_loss_func = self.loss_func
        try:
            yield
        finally:
            self.trainer.compute_loss_func = self._loss

    def _compute_loss(
        self,
        original: Callable[..., Any],
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        **kwargs: Any,
    ) -> Any:
        if self.plan is None or not model.training:
            with self.unweighted():
                return original(model, inputs, return_outputs=return_outputs, **kwargs)
        # Adversarial training and SAM run the model on a batch again.  Its scores are those of the first pass.
        first, self.awaits_scores = self.awaits_scores, False
        self.fields = self.scores.own_labels(inputs)
        if self.weighted and first:
            self.batch = self.passes.first(self._current_batch, inputs, self._accumulation)
        elif self.weighted:
            self.batch = self.passes.further(inputs, self._current_batch)
        if not first and self.fused is None:
            return original(model, inputs, return_outputs=return_outputs, **kwargs)
        outcome = self.scores.reader.run(original, model, inputs, return_outputs, **kwargs)
        result = outcome.result if self.fused is None else self._weighted(outcome, return_outputs, kwargs)
        if first:
            index = self._indices(self._current_batch)
            scores = self.scores.of_batch(outcome.outputs, self.fields, index)
            check_owners(index, scores)
            self.driver.record(index, scores)
        return result

    def _weighted(self, outcome: Outcome, return_outputs: bool, given: Mapping[str, Any]) -> Any:
        """What TRL's loss function returned, with the weights of this batch's examples."""
        assert self.fused is not None
        index = self._indices(self.batch)
        layout = self.scores.language.layout_of_fields(self.fields, index)
        loss = self.fused.weighted(outcome, layout, self.pruner.weights(index), given.get("num_items_in_batch"))
        return (loss, *outcome.result[1:]) if return_outputs else loss

    def _loss(self, outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Tensor:
        """Takes the place of ``compute_loss_func`` where a method weights losses."""
        accumulation = getattr(self.trainer, "current_gradient_accumulation_steps", self._accumulation)
        index = self._indices(self.batch)
        weights = self.pruner.weights(index)
        if self.loss_func is not None:
            losses = own_losses(self.loss_func, outputs, labels, num_items_in_batch, len(index))
            mean = weighted_loss(losses, weights, None, accumulation)
            return mean / self._average_factor(num_items_in_batch)
        losses = self._example_losses(outputs, self.fields, index)
        return weighted_loss(losses, weights, num_items_in_batch, accumulation)

    def _example_losses(self, outputs: Any, fields: Mapping[str, Any], index: Tensor) -> ExampleLosses:
        smoothing = self.trainer.args.label_smoothing_factor
        packed = self.scores.language.losses(outputs, fields, index, smoothing)
        if packed is not None:
            return packed
        task = self.scores.task(fields, advice=TASK_ADVICE)
        return task.losses(outputs, fields, label_smoothing=smoothing)

    def trial(self, index: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The first of ``index`` as the batch of a step that changes nothing: their scores, and losses to weight.

        Raises:
            ValueError, RuntimeError: what a training step could not score, or not weight.
        """
        first = index[: self.trainer._train_batch_size]

        def score_batch(batch: Any, index: Tensor) -> Mapping[str, Tensor]:
            with self.unweighted():
                outcome, fields = self.scores.forward(batch)
            scores = self.scores.of_batch(outcome.outputs, fields, index)
            check_owners(index, scores)
            if self.fused is not None:
                check_agreement(self.fused.example_losses(outcome), self.fused.without_auxiliary(outcome))
            elif self.weighted:
                self._try_losses(batch, fields, outcome.loss, index)
            return scores

        return first, self.scores.over(first, len(first), score_batch)

    def _try_losses(self, batch: Any, fields: Mapping[str, Any], theirs: Tensor, index: Tensor) -> None:
        """Refuse a loss whose parts cannot be weighted."""
        trainer, found = self.trainer, []
        reached: list[bool] = []

        def loss_func(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Tensor:
            reached.append(True)
            if self.loss_func is None:
                losses = self._example_losses(outputs, fields, index)
            else:
                losses = own_losses(self.loss_func, outputs, labels, num_items_in_batch, len(index))
            found.append(losses)
            return losses.sums.mean()

        trainer.compute_loss_func = loss_func
        try:
            with self._goes_without_labels(fields, reached):
                self.scores.forward(batch)
        finally:
            trainer.compute_loss_func = self._loss
        if not found:
            raise ValueError(
                f"this version of transformers calls no compute_loss_func unless the batch has 'labels', and "
                f"method {self.pruner.method.name!r} weights losses: name the labels 'labels', or update transformers"
            )
        if self.loss_func is None:
            check_agreement(found[0], theirs)

    @contextmanager
    def _goes_without_labels(self, fields: Mapping[str, Any], reached: Sequence[bool]) -> Iterator[None]:
        """Around a weighted pass, in which the Trainer takes the labels out of the batch before the model.

        With them the model has just been tried.  Once ``reached`` holds something, the model has gone without them.
        What the user's own compute_loss_func says then is no longer about labels.

        Raises:
            ValueError: without them it fails.
        """
        try:
            yield
        except (TypeError, AttributeError, KeyError, ValueError) as error:
            if "labels" not in fields or (reached and self.loss_func is not None):
                raise
            raise ValueError(
                f"{type(self.trainer.model).__name__}.forward needs the labels, and method {self.pruner.method.name!r} "
                "weights losses outside of the model, which is called without them; let forward take labels=None and "
                "return its logits then, or choose a method without weights (`fastprune methods`)"
            ) from error

    def _average_factor(self, num_items: Any) -> float:
        """The factor by which the Trainer multiplies a loss over the labels of all processes."""
        args = self.trainer.args
        averaged = getattr(args, "average_tokens_across_devices", False) and num_items is not None
        return args.world_size if averaged else 1.0

    @property
    def _accumulation(self) -> int:
        return self.trainer.args.gradient_accumulation_steps

    @property
    def _current_batch(self) -> int:
        """The number within its chunk of the batch that is trained on."""
        assert self.plan is not None
        progress = self.driver.progress
        return self.plan.batches_until(progress.piece_number, progress.position)

    def _indices(self, batch: int) -> Tensor:
        """Which examples a batch of this chunk holds.  It follows from the place of the batch in the order."""
        if self._batch_indices is None:
            order = self.driver.sampler.piece_indices().tolist() if self.own_order is None else self.own_order.order
            self._batch_indices = rank_batches(order, self.trainer)
        return self._batch_indices[batch]


def check_owners(index: Tensor, scores: Mapping[str, Tensor]) -> None:
    """Refuse scores of another number of examples than the sampler put into the batch.

    Raises:
        RuntimeError: the numbers differ.
    """
    found = without_owners(index, scores)
    if found is not None:
        raise RuntimeError(
            f"{found}: the batches are not those of the sampler (a batch sampler of your own, or a collator that packs "
            "examples or drops some?), so scores find no example; use method='el2n', which scores in a pass of its "
            "own"
        )
