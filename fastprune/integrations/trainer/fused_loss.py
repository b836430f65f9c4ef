"""The loss of TRL's SFTTrainer, whose examples count differently.

TRL's loss stays as TRL computes it.  To it is added what the weights add: the loss of each token, times its example's
weight less 1, over the same number of items.  So weights of 1 add exactly 0.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer

from fastprune.integrations.batch_scoring import BatchScoring
from fastprune.integrations.packed import Layout
from fastprune.integrations.trainer.output_head import output_head
from fastprune.integrations.trainer.readers import FusedHead, FusedOutputs, Outcome, Reader
from fastprune.integrations.trainer.trl import refuse_unknown_trl, trl_kind
from fastprune.pruning import Method
from fastprune.scores.task import ExampleLosses

LOSS_TYPES = ("nll", "dft")


class FusedLoss:
    """The weighted loss of one SFTTrainer."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = weakref.ref(trainer)
        self.loss_type = trainer.args.loss_type

    @staticmethod
    def is_of(trainer: Any, reader: Reader) -> bool:
        """Whether TRL computes the loss from its fused head.  Elsewhere it builds logits, for ``compute_loss_func``."""
        if not isinstance(reader, FusedHead) or trainer.compute_loss_func is not None:
            return False
        return trainer.label_smoother is None or trainer.args.loss_type != "nll"

    def weighted(self, outcome: Outcome, layout: Layout, weights: Tensor | None, num_items: Any) -> Tensor:
        """TRL's loss with weights, differentiable.

        Args:
            outcome: of TRL's loss function.
            layout: of the batch.
            weights: (B,).  None if all are 1.
            num_items: as TRL was given it.
        """
        if weights is None:
            return outcome.loss
        trainer: Any = self._trainer()
        seen: FusedOutputs = outcome.outputs
        surplus = seen.surplus(self.loss_type, layout, weights)
        items = torch.as_tensor(seen.first.label_mask.sum() if num_items is None else num_items).clamp(min=1)
        extra = surplus / items.to(surplus.device)
        if trainer.args.average_tokens_across_devices and num_items is not None:
            extra = extra * (trainer.accelerator.num_processes // trainer.get_tp_size())
        return outcome.loss + extra

    def example_losses(self, outcome: Outcome) -> ExampleLosses:
        """The losses that would be weighted, each row as one."""
        seen: FusedOutputs = outcome.outputs
        return ExampleLosses(seen.losses(self.loss_type).sum(-1), seen.first.label_mask.sum(-1))

    def without_auxiliary(self, outcome: Outcome) -> Tensor:
        """TRL's loss without that of a router, which belongs to no example."""
        auxiliary = getattr(outcome.outputs.first, "aux_loss", None)
        if auxiliary is None:
            return outcome.loss
        return outcome.loss - getattr(self._trainer(), "router_aux_loss_coef", 0.0) * auxiliary


def check_fused_head(trainer: Any, method: Method, scoring: BatchScoring) -> None:
    """Refuse what does not go with TRL's fused head, and weights in a loss function that nobody here knows.

    Raises:
        ValueError: the message says what to change.
    """
    kind = trl_kind(trainer)
    if kind == "sft" and scoring.score_fn is None and scoring.task is None:
        _check_sft(trainer, method)
    elif method.weighted and type(trainer).compute_loss is not Trainer.compute_loss:
        raise ValueError(
            f"{type(trainer).__name__} overrides compute_loss, and method {method.name!r} weights the loss of "
            "each example in the compute_loss_func of a Trainer that does not; choose a method without weights "
            "(`fastprune methods`), such as 'el2n-free'"
        )


def _check_sft(trainer: Any, method: Method) -> None:
    if not method.reads:
        return
    head = output_head(trainer.model)
    if isinstance(head, str) and "no output embedding" in head:
        raise ValueError(
            f"{head}, and scores of a language model are computed from it; return the layer that makes the logits, or "
            "choose a method without scores (`fastprune methods`), such as 'random'"
        )
    if not method.observes:
        return
    refuse_unknown_trl(method.name)
    if trainer.args.torch_compile:
        raise ValueError(
            f"torch_compile hides the tiles of TRL's fused head, from which method {method.name!r} reads its scores; "
            "set torch_compile=False, or choose a method that scores in a pass of its own, such as 'el2n'"
        )
    if method.weighted and trainer.args.loss_type not in LOSS_TYPES:
        raise ValueError(
            f"loss_type is {trainer.args.loss_type!r}, whose tokens cannot be weighted; set loss_type to one of "
            f"{', '.join(LOSS_TYPES)}, or choose a method without weights (`fastprune methods`)"
        )
