"""The task of question answering heads under the names that Transformers gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastprune.scores.task import Head, Task

SPAN_LOGITS = ("start_logits", "end_logits")
SPAN_LABELS = ("start_positions", "end_positions")


def question_answering(fields: Mapping[str, Any]) -> Task | None:
    """The task of the start and the end, whose score is the mean of both. None if the batch lacks the labels of one."""
    if any(fields.get(name) is None for name in SPAN_LABELS):
        return None
    return Task(Head(SPAN_LOGITS, SPAN_LABELS, kind="span", reduce="mean"))
