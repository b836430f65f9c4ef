"""Where a method's choice by scores was measured.  Elsewhere a method may name a substitute that reads none."""

from __future__ import annotations

import logging
from typing import Any

from fastprune.integrations.batch_scoring import BatchScoring
from fastprune.integrations.causal_lm import plain_model
from fastprune.integrations.trainer.outputs import shifts_labels
from fastprune.integrations.trainer.trl import trl_kind
from fastprune.pruning import Method

logger = logging.getLogger(__name__)

_BY_NAME = {
    "MaskedLM": "a masked language model",
    "ForPreTraining": "a model in pre-training",
    "ForQuestionAnswering": "a model for question answering",
    "ForMultipleChoice": "a model for multiple choice",
    "ForConditionalGeneration": "a sequence-to-sequence model",
    "Seq2SeqLM": "a sequence-to-sequence model",
    "MarianMTModel": "a sequence-to-sequence model",
}


def with_evidence(method: Method, trainer: Any, scoring: BatchScoring) -> Method:
    """The method, or its substitute where nobody has measured what its scores are worth.  Then a line is logged.

    A ``score_fn`` says itself what an example's score is, so the method stays.
    """
    if method.without_evidence is None or scoring.score_fn is not None:
        return method
    reason = unmeasured(trainer)
    if reason is None:
        return method
    substitute = method.without_evidence
    if trainer.is_world_process_zero():
        logger.warning(
            "method %r is %r here: no evidence says which examples matter for %s. "
            "Name another method to choose by scores, for instance 'el2n-free'",
            method.name,
            substitute.name,
            reason,
        )
    return substitute


def unmeasured(trainer: Any) -> str | None:
    """Why nobody knows what scores are worth here, as the end of a sentence.

    None for anything that looks like classes of texts or tokens, where it was measured.  A model that is made later
    (``model_init``), classes of pictures and sounds, and a model of a class of its own pass as that.
    """
    kind = trl_kind(trainer)
    if kind is not None:
        return f"TRL's {type(trainer).__name__}"
    if trainer.model is None:
        return None
    base: Any = plain_model(trainer.model)
    classes = [one.__name__ for one in type(base).__mro__]
    for name, what in _BY_NAME.items():
        if any(name in one for one in classes):
            return what
    if shifts_labels(base):
        return "a causal language model"
    config = getattr(base, "config", None)
    problem = getattr(config, "problem_type", None)
    if problem == "multi_label_classification":
        return "several labels of an example"
    single = problem is None and getattr(config, "num_labels", None) == 1
    return "regression" if problem == "regression" or single else None
