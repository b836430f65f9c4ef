"""The table of tasks: which parts each brings to training.  Encoders under heads are those of all others."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastprune.app.data.types import CAUSAL_LM, Kind, TextData
from fastprune.app.finetune.encoder_parts import EncoderParts
from fastprune.app.finetune.lm.parts import LanguageModelParts
from fastprune.app.finetune.parts import Parts
from fastprune.app.finetune.spec import Training
from fastprune.app.finetune.trust import Trust

_OTHERS: Mapping[Kind, Callable[..., Parts]] = {CAUSAL_LM: LanguageModelParts}


def parts_of(data: TextData, model: str | None, training: Training, trust: Trust) -> Parts:
    """Return what the task of these data brings to training.

    Raises:
        UsageError: the model cannot be loaded, or does not go with the data.
    """
    return _OTHERS.get(data.kind, EncoderParts)(data, model, training, trust)
