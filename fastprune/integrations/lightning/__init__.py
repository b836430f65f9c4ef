"""Pruning inside Lightning's Trainer: `PruningCallback`."""

from fastprune.integrations.lightning.callback import PruningCallback

__all__ = ["PruningCallback"]
