"""How a causal language model is scored in a Trainer: from its hidden states, from TRL's fused head, in packed rows."""

from __future__ import annotations

import functools
import inspect
import logging
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer

from fastprune.integrations.batch_scoring import BatchScoring
from fastprune.integrations.causal_lm import IGNORED, counted_tokens, plain_model
from fastprune.integrations.datasets import is_hub_dataset, list_lengths
from fastprune.integrations.logit_transform import transform_of
from fastprune.integrations.packed import Layout, boundaries, layout_of
from fastprune.integrations.trainer.output_head import HeadTap, output_head
from fastprune.integrations.trainer.outputs import shifts_labels
from fastprune.integrations.trainer.readers import FusedHead, FusedOutputs, OwnOutputs, Preferences, Reader, logits_of
from fastprune.integrations.trainer.token_rows import (
    TokenRows,
    losses_of_logits,
    rows_of_logits,
)
from fastprune.integrations.trainer.trl import lacking_in_trl, trl_kind
from fastprune.scores.metrics import KERNEL_METRICS
from fastprune.scores.reduce import Reduction
from fastprune.scores.task import ExampleLosses, Head, Task

SEGMENTS = "seq_lengths"
"""The column in which TRL keeps the lengths of the texts of a packed row."""
LABELS = "labels"

logger = logging.getLogger(__name__)


class LanguageModel:
    """What is known of the language model of one trainer.

    Args:
        trainer: any Trainer.  If its model is no language model with the usual head, nothing is done here.
        scoring: the options of `attach`.
        reads: names of metrics.

    Attributes:
        kind: which of TRL's trainers it is.
        reduce: how scores of tokens become one.  None for the usual way of each metric.
    """

    def __init__(self, trainer: Any, scoring: BatchScoring, reads: Sequence[str]) -> None:
        self._trainer = weakref.ref(trainer)
        self.kind = trl_kind(trainer)
        self.reads = tuple(reads)
        head = _usual_head(scoring.task)
        self.reduce: Reduction | None = None if head is None else head.reduce
        by_default = scoring.score_fn is None and head is not None and set(reads) <= set(KERNEL_METRICS)
        self._scored_by_default = scoring.score_fn is None and scoring.task is None
        self.understood = by_default and trainer.model is not None and shifts_labels(trainer.model)
        self._hidden_works = self.understood and _computes_usual_loss(trainer)

    def reader_of(self, trainer: Any) -> Reader:
        """What reads scores off this trainer's own call of its loss function."""
        if self._scored_by_default and self.kind in ("dpo", "kto", "reward"):
            return Preferences(trainer, self.kind)
        if self.understood and self.kind == "sft" and lacking_in_trl() is None:
            return FusedHead(trainer, self.reads)
        return OwnOutputs()

    def rows(self, outputs: Any, fields: Mapping[str, Any], examples: int) -> TokenRows | None:
        """The scores of a batch's tokens.  None if the batch is better scored by its `Task`."""
        labels = fields.get(LABELS)
        if isinstance(outputs, FusedOutputs):
            return outputs.rows(fields[LABELS])
        if not self.understood or not isinstance(labels, Tensor) or labels.ndim != 2:
            return None
        if not self.is_packed(fields, examples) or getattr(outputs, "logits", None) is None:
            return None
        return rows_of_logits(logits_of(outputs), labels, self.reads)

    def is_packed(self, fields: Mapping[str, Any], examples: int) -> bool:
        """Whether the rows of labels are not the examples, or hold several texts."""
        labels = fields.get(LABELS)
        if not isinstance(labels, Tensor) or labels.ndim != 2:
            return False
        starts = boundaries(fields, *labels.shape)
        return len(labels) != examples or (starts is not None and bool(starts[:, 1:].any()))

    def layout(self, fields: Mapping[str, Any], counted: Tensor, index: Tensor) -> Layout:
        """Which example each token of a batch belongs to."""
        each = self._segments
        return layout_of(fields, counted, len(index), None if each is None else each[index.cpu()])

    def layout_of_fields(self, fields: Mapping[str, Any], index: Tensor) -> Layout:
        """Which example each token of a batch with these fields belongs to."""
        return self.layout(fields, counted_tokens(fields[LABELS]), index)

    def losses(
        self, outputs: Any, fields: Mapping[str, Any], index: Tensor, label_smoothing: float
    ) -> ExampleLosses | None:
        """The losses of each example of a packed batch.  None if each row is one text."""
        labels = fields.get(LABELS)
        if not self.understood or not isinstance(labels, Tensor) or not self.is_packed(fields, len(index)):
            return None
        each, counted = losses_of_logits(logits_of(outputs), labels, label_smoothing)
        return ExampleLosses(*self.layout(fields, counted, index).sums_of_examples(each, counted))

    def rows_of_hidden(self, batch: Any) -> tuple[dict[str, Any], TokenRows] | None:
        """The fields of a collated batch, and the scores of its tokens by one forward pass without logits.

        None if this model's logits are needed.
        """
        trainer: Any = self._trainer()
        if not self._hidden_works:
            return None
        inputs = trainer._prepare_inputs(batch)
        labels = inputs.get(LABELS)
        if not isinstance(labels, Tensor) or labels.ndim != 2:
            return None
        head = output_head(trainer.model)
        if isinstance(head, str):
            self._give_up(head)
            return None
        base: Any = plain_model(trainer.model)
        tap = HeadTap(head, transform_of(base.config), labels, self.reads)
        given = {name: value for name, value in inputs.items() if name != LABELS}
        if "use_cache" in inspect.signature(base.forward).parameters:
            given["use_cache"] = False
        with trainer.compute_loss_context_manager(), tap.instead_of_logits():
            outputs = trainer.model(**given)
        if not tap.knows(getattr(outputs, "logits", None)):
            self._give_up(f"{type(base).__name__} does more to its logits than scale them")
            return None
        assert tap.rows is not None
        values = {name: row.masked_fill(~counted_tokens(labels), 0.0) for name, row in tap.rows.items()}
        return dict(inputs), TokenRows(values, counted_tokens(labels))

    def _give_up(self, reason: str) -> None:
        self._hidden_works = False
        logger.warning("%s, so a scoring pass makes all logits of its batches: mind the memory", reason)

    @functools.cached_property
    def _segments(self) -> Tensor | None:
        """The number of texts in each example of a packed data set."""
        dataset = self._trainer().train_dataset  # type: ignore[union-attr]
        each = list_lengths(dataset, SEGMENTS) if is_hub_dataset(dataset) else None
        return None if each is None else torch.as_tensor(each)


def _usual_head(task: Task | None) -> Head | None:
    """The head of a language model as Transformers names it.  None if the user's task is another."""
    if task is None:
        return Head(kind="causal_lm")
    if len(task.heads) != 1:
        return None
    head = next(iter(task.heads.values()))
    usual = (head.logits, head.labels, head.ignore_index) == ("logits", LABELS, IGNORED)
    return head if usual and head.kind == "causal_lm" else None


def _computes_usual_loss(trainer: Any) -> bool:
    """Whether ``compute_loss`` does nothing to the batch that a forward pass would miss."""
    function = type(trainer).compute_loss
    return function is Trainer.compute_loss or function.__module__.split(".")[0] == "trl"
