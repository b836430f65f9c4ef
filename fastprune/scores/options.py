"""The options of the loss, as one object that goes from `fastprune.cross_entropy` down to the kernels."""

from __future__ import annotations

from typing import NamedTuple

LOSS_REDUCTIONS = ("mean", "sum", "none")


class LossOptions(NamedTuple):
    """Every argument of the loss that is not a tensor.

    It is immutable and has a hash, so it is also part of the key by which a prepared launch is found. The order of the
    fields is that of the arguments of ``torch.ops.fastprune.cross_entropy``, which takes them one by one.

    Attributes:
        metrics: The scores that the kernels compute beside the loss.
        ignore_index: Rows with this label have no loss and no gradient, and score 0.
        label_smoothing: How much of the label is spread over all classes, in [0, 1].
        shift: Row (b, t) is scored against label (b, t + shift).
        reduction: "mean", "sum" or "none".
    """

    metrics: tuple[str, ...] = ()
    ignore_index: int = -100
    label_smoothing: float = 0.0
    shift: int = 0
    reduction: str = "mean"
