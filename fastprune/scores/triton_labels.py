"""Finds the label of each row of logits, for every Triton kernel that goes over rows.

Logits are (B, T, C) and labels (B, T), with strides of their own. Row number b * T + t is scored against the label at
(b, t + shift). The last `shift` rows of a batch entry have no label.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def labels_of(
    row,  # int64, a scalar or a vector of row numbers
    labels,  # IN  (B, T) int64
    rows,  # B * T
    tokens,  # T
    classes,  # C
    batch_stride,  # of the labels, in elements
    token_stride,
    shift,
    ignore_index,
):
    """Where rows are, and which labels they have.

    Requires rows < 2**31, the limit of the grid. So the division has 32 bits, because one of 64 bits is slow.

    Returns:
        (b, t, label, counted, valid). `counted` is false for rows without a label and for ignored rows. `valid` is
        true for counted rows whose label is in [0, classes).
    """
    b = (row.to(tl.int32) // tokens).to(tl.int64)
    t = row - b * tokens
    has_label = (row < rows) & (t + shift < tokens)
    label = tl.load(labels + b * batch_stride + (t + shift) * token_stride, mask=has_label, other=0)
    counted = has_label & (label != ignore_index)
    valid = counted & (label >= 0) & (label < classes)
    return b, t, label, counted, valid
