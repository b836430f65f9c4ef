"""Pruning inside the Hugging Face Trainer: `attach` and `detach`."""

from fastprune.integrations.trainer.entry import attach, detach

__all__ = ["attach", "detach"]
