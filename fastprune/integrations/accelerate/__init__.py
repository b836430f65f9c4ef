"""Pruning beside Accelerate: `prepare_accelerate`."""

from fastprune.integrations.accelerate.prepare import prepare_accelerate

__all__ = ["prepare_accelerate"]
