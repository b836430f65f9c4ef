"""Lets a user or an adapter follow the scoring passes and the selections of a run."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from fastprune.pruning.schedule import Phase


class Listener:
    """Is called around the scoring passes and the selections of a run, for example to time them.

    Override the methods that you need, and set ``pruner.listener``.  Each returns a context manager.  It is entered
    before the work and left after it, even if the work fails.

    >>> from contextlib import contextmanager
    >>> from fastprune import DynamicPruner
    >>> class Talker(Listener):
    ...     @contextmanager
    ...     def choosing(self, phase):
    ...         yield
    ...         print(f"chose {phase.size} examples before epoch {phase.first_epoch}")
    >>> pruner = DynamicPruner(100, keep_fraction=0.5, method="random")
    >>> pruner.listener = Talker()
    >>> for epoch in pruner.epochs(2):
    ...     examples = list(pruner.sampler)
    chose 50 examples before epoch 1
    """

    def scoring(self, examples: int) -> AbstractContextManager[Any]:
        """Around a scoring pass.

        Args:
            examples: how many this process scores.
        """
        return nullcontext()

    def choosing(self, phase: Phase) -> AbstractContextManager[Any]:
        """Around the selection of the kept set of ``phase``."""
        return nullcontext()
