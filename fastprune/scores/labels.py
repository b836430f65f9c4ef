"""Class labels of any integer dtype. They are compared with `ignore_index` by value."""

from __future__ import annotations

import torch
from torch import Tensor


def class_indices(labels: Tensor) -> Tensor:
    """The labels as int64. Labels that are int64 already are returned as they are.

    PyTorch compares an unsigned tensor with a number modulo its range, so a uint8 label of 156 equals -100. As int64 it
    does not. So every comparison of integer labels uses this function.
    """
    return labels if labels.dtype == torch.int64 or labels.is_floating_point() else labels.to(torch.int64)


def is_counted(labels: Tensor, ignore_index: int) -> Tensor:
    """Where labels of any dtype differ from `ignore_index`, as a bool tensor of their shape."""
    return class_indices(labels) != ignore_index
