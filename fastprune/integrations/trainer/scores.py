"""Scores of a Trainer's batches: in its training step, and in a pass of its own."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from tqdm.auto import tqdm

from fastprune.integrations.batch_scoring import BatchScoring, first_batch, one_score_each
from fastprune.integrations.bookkeeping import left_as_it_was, nothing
from fastprune.integrations.datasets import is_hub_dataset, lengths
from fastprune.integrations.hooks import weak
from fastprune.integrations.trainer.language_model import LanguageModel
from fastprune.integrations.trainer.outputs import SCORE_ADVICE, task_of_model
from fastprune.integrations.trainer.readers import Outcome, Preferences, margin_scores
from fastprune.pruning import score_dataset
from fastprune.pruning.scoring import longest_first
from fastprune.scores.last_layer import LastLayers
from fastprune.scores.task import Task, label_fields

ScoreIndexed = Callable[[Any, Tensor], Mapping[str, Tensor]]
"""Gives the metrics of a collated batch and of the examples with these indices in it."""


class TrainerScores:
    """The metrics a method reads, of batches of one trainer."""

    def __init__(self, trainer: Any, scoring: BatchScoring, reads: tuple[str, ...]) -> None:
        self._trainer = weakref.ref(trainer)
        self.scoring = scoring
        self.reads = reads
        self.language = LanguageModel(trainer, scoring, reads)
        self.reader = self.language.reader_of(trainer)
        self._plain_loss = weak(trainer, "compute_loss")

    @property
    def trainer(self) -> Any:
        """The trainer, which lives as long as its hooks are called."""
        return self._trainer()

    def task(self, inputs: Mapping[str, Any], advice: str = SCORE_ADVICE) -> Task:
        """Where logits and labels are."""
        trainer = self.trainer
        return self.scoring.task or task_of_model(inputs, trainer.label_names, trainer.model, advice)

    def own_labels(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The batch as it is now.  Computing the loss may take labels out of it, or change them in place."""
        names = set(self.trainer.label_names)
        if self.scoring.task is not None:
            names |= label_fields(self.scoring.task)
        return {k: v.clone() if k in names and isinstance(v, Tensor) else v for k, v in inputs.items()}

    def of_batch(
        self, outputs: Any, fields: Mapping[str, Any], index: Tensor, last_layers: LastLayers | None = None
    ) -> Mapping[str, Tensor]:
        """The metrics of a batch's examples, by metric.

        Args:
            outputs: what the reader saw.
            fields: of the batch.
            index: of its examples.
            last_layers: which watched the forward pass.
        """
        if isinstance(self.reader, Preferences):
            return margin_scores(outputs, self.reads)
        rows = self.language.rows(outputs, fields, len(index))
        if rows is not None:
            return rows.of_examples(self.language.layout(fields, rows.counted, index), self.language.reduce)
        return self.scoring.metrics(outputs, fields, self.reads, self.task, last_layers)

    def scoring_pass(self, index: Tensor) -> Mapping[str, Tensor]:
        """One forward pass over ``index``, on the Trainer's model, data, collator and precision."""
        return self.over(index, self._pass_batch_size, self._score_of_pass())

    def first_of_pass(self, index: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The batch with which a pass over ``index`` would begin, and its scores."""
        first = first_batch(index, self._lengths, self._pass_batch_size)
        return first, self.over(first, len(first), self._score_of_pass())

    def segments(self, index: Tensor) -> list[dict[str, Tensor]]:
        """The scores of the texts in the rows ``index``, batch by batch, with the example of each."""
        found: list[dict[str, Tensor]] = []

        def score_batch(batch: Any, own: Tensor) -> Mapping[str, Tensor]:
            seen = self.language.rows_of_hidden(batch)
            if seen is None:
                raise ValueError(
                    f"{type(self.trainer.model).__name__} is no causal language model whose head can be scored, or a "
                    "metric is no metric of tokens, so the texts of a row have no scores"
                )
            fields, rows = seen
            layout = self.language.layout(fields, rows.counted, own)
            each = {name: values[: layout.texts] for name, values in rows.of_segments(layout).items()}
            found.append({**each, "example": own[layout.owner[: layout.texts].cpu()]})
            return rows.of_examples(layout)

        self.over(index, self._pass_batch_size, score_batch)
        return found

    def over(self, index: Tensor, batch_size: int, score_batch: ScoreIndexed) -> Mapping[str, Tensor]:
        """The scores of ``index``, in eval mode without gradients.

        This is no training: what the Trainer counts, collects and logs is as it was before, see `left_as_it_was`.

        Args:
            index: which examples.
            batch_size: of the pass.
            score_batch: is given collated batches, and the indices of their examples.
        """
        trainer = self.trainer
        known = self._lengths if len(index) > batch_size else None
        batches = iter(index[longest_first(index, known)].split(batch_size))
        quiet = trainer.args.disable_tqdm or not trainer.is_local_process_zero() or len(index) <= batch_size
        bar = tqdm(total=len(index), desc="Scoring", disable=quiet, leave=False)
        with bar, self._no_training():
            dataset, collate = trainer.train_dataset, trainer.data_collator
            if is_hub_dataset(dataset):
                dataset = trainer._remove_unused_columns(dataset, description="scoring")
            else:
                collate = trainer._get_collator_with_removed_columns(collate, description="scoring")
            # The unwrapped model: processes need not agree in the number of their batches.
            return score_dataset(
                trainer.model,
                dataset,
                one_score_each(lambda batch: score_batch(batch, next(batches)), len(index), batch_size),
                indices=index,
                lengths=known,
                batch_size=batch_size,
                collate_fn=collate,
                progress=bar.update,
            )

    def forward(self, batch: Any, **options: Any) -> tuple[Outcome, dict[str, Any]]:
        """The reader's view and the fields of a collated batch, through the Trainer's own loss function."""
        trainer = self.trainer
        inputs = trainer._prepare_inputs(batch)
        fields = self.own_labels(inputs)
        options |= self._number_of_items(fields)
        # As in evaluation: a subclass that takes fields of its own out of the batch does so here, too.
        with trainer.compute_loss_context_manager():
            return self.reader.run(self._plain_loss, trainer.model, inputs, False, **options), fields

    def _score_of_pass(self) -> ScoreIndexed:
        last_layers = self.scoring.last_layers(self.trainer.model, self.reads)

        def score_batch(batch: Any, index: Tensor) -> Mapping[str, Tensor]:
            found = self.language.rows_of_hidden(batch)
            if found is not None:
                fields, rows = found
                return rows.of_examples(self.language.layout(fields, rows.counted, index), self.language.reduce)
            with last_layers.watch():
                outcome, fields = self.forward(batch)
            return self.of_batch(outcome.outputs, fields, index, last_layers)

        return score_batch

    @property
    def _pass_batch_size(self) -> int:
        return self.scoring.pass_batch_size(self.trainer.args.per_device_train_batch_size)

    @contextmanager
    def _no_training(self) -> Iterator[None]:
        """The Trainer's bookkeeping stays as it is, and what its loss function logs goes nowhere."""
        trainer = self.trainer
        others = trainer.eval_dataset.values() if isinstance(trainer.eval_dataset, dict) else [trainer.eval_dataset]
        apart_from = [getattr(trainer, "_fastprune", None), *others]
        with left_as_it_was(trainer, apart_from=apart_from, readers=[trainer.train_dataset]):
            trainer.log = nothing
            yield

    def _number_of_items(self, fields: Mapping[str, Any]) -> dict[str, Tensor]:
        """What a ``compute_loss_func`` may divide by.  This process's batch will do, because nobody reads the loss."""
        if self.trainer.compute_loss_func is None:
            return {}
        labels = [fields[name] for name in self.trainer.label_names if isinstance(fields.get(name), Tensor)]
        return {"num_items_in_batch": sum((label != -100).sum() for label in labels)} if labels else {}

    @functools.cached_property
    def _lengths(self) -> Any:
        return lengths(self.trainer.train_dataset, getattr(self.trainer.args, "length_column_name", "length"))
