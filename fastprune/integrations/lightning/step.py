"""The current batch of a Lightning run: which examples it holds, and the scores from its training step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from fastprune.integrations.batch_metrics import without_owners
from fastprune.integrations.hooks import Overrides
from fastprune.integrations.lightning.scores import LightningScores
from fastprune.pruning import Method


class CurrentBatch:
    """The batch that this process trains on now.

    Attributes:
        index: (B,) int64 positions of its examples in the data set.
        scores: the metrics that the method reads.  None until the training step has given them.
    """

    def __init__(self, scores: LightningScores, method: Method) -> None:
        self._scores, self._method = scores, method
        self._overrides = Overrides()
        self._order = torch.empty(0, dtype=torch.int64)
        self._awaits_scores = False
        self.index = self._order
        self.scores: Mapping[str, Tensor] | None = None

    def begin_epoch(self, order: Tensor) -> None:
        """Begin an epoch in which this process reads these examples in this order."""
        self._order = order

    def begin(self, number: int, size: int) -> None:
        """Move to batch ``number`` of the epoch, which has ``size`` examples."""
        self.index = self._order[number * size : (number + 1) * size]
        self._awaits_scores, self.scores = True, None

    def owners_of(self, losses: Tensor) -> Tensor:
        """The positions in the data set of the examples that these losses belong to, (B,).

        Raises:
            ValueError: there is not one loss for each example of the batch.
        """
        if losses.shape != self.index.shape:
            raise ValueError(
                f"losses has shape {tuple(losses.shape)}, the batch holds {len(self.index)} examples: pass the "
                "loss of each, computed with reduction='none'"
            )
        return self.index

    def watch(self, trainer: Any) -> None:
        """From now on read scores off the training steps, if the method learns from them."""
        if self._method.observes:
            self._overrides.add(trainer.strategy, "training_step", self._training_step)

    def release(self) -> None:
        """Stop reading scores off the training steps."""
        self._overrides.remove()

    def _training_step(self, original: Callable[..., Any], batch: Any, *args: Any, **kwargs: Any) -> Any:
        """Score the first forward pass over a batch.  An optimizer may call its closure again, with trial weights."""
        outputs = original(batch, *args, **kwargs)
        if self._awaits_scores and outputs is not None:
            found = dict(outputs) if isinstance(outputs, Mapping) else {"loss": outputs}
            loss = found.get("loss")
            if isinstance(loss, Tensor):
                found["loss"] = loss.detach()
            self.scores = self._scores_of(found, batch)
        self._awaits_scores = False
        return outputs

    def _scores_of(self, outputs: Any, batch: Any) -> Mapping[str, Tensor]:
        method = self._method
        if self._scores.scoring.score_fn is None and set(outputs) == {"loss"}:
            raise ValueError(
                f"training_step returns the loss alone, and method {method.name!r} reads scores off its logits: "
                'return {"loss": loss, "logits": logits}, pass score_fn, or take method="el2n", which makes a pass of '
                "its own"
            )
        scores = self._scores.of_batch(outputs, batch)
        found = without_owners(self.index, scores)
        if found is not None:
            raise ValueError(
                f"{found}: a collate_fn that drops examples leaves scores without owners; keep them, or take "
                'method="el2n", which makes a pass of its own'
            )
        return scores
