"""The batch that a Lightning run trains on: which examples it holds, and the scores of its training step."""

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
    """The batch of this process that is trained on now.

    Attributes:
        index: (B,) int64 positions of its examples in the data set.
        scores: what the method reads of them, None until a training step has shown them.
    """

    def __init__(self, scores: LightningScores, method: Method) -> None:
        self._scores, self._method = scores, method
        self._overrides = Overrides()
        self._order = torch.empty(0, dtype=torch.int64)
        self._awaits_scores = False
        self.index = self._order
        self.scores: Mapping[str, Tensor] | None = None

    def begin_epoch(self, order: Tensor) -> None:
        """An epoch begins, of which this process reads these examples in this order."""
        self._order = order

    def begin(self, number: int, size: int) -> None:
        """Batch ``number`` of the epoch, of ``size`` examples, is trained on next."""
        self.index = self._order[number * size : (number + 1) * size]
        self._awaits_scores, self.scores = True, None

    def owners_of(self, losses: Tensor) -> Tensor:
        """The positions in the data set of the examples whose losses these are, (B,).

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
        """Read scores off the training steps from now on, if the method learns from them."""
        if self._method.observes:
            self._overrides.add(trainer.strategy, "training_step", self._training_step)

    def release(self) -> None:
        """Leave the training steps alone from now on."""
        self._overrides.remove()

    def _training_step(self, original: Callable[..., Any], batch: Any, *args: Any, **kwargs: Any) -> Any:
        """Score the first pass over a batch.  A closure may be called again, at weights that are no step's."""
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
