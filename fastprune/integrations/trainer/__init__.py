"""Pruning inside the Hugging Face Trainer: `attach` and `detach`."""

from fastprune.integrations.trainer.entry import attach, detach
from fastprune.integrations.trainer.segments import segment_scores

__all__ = ["attach", "detach", "segment_scores"]
