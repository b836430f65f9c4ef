"""Row scores on the GPU: a Triton kernel that reads each row of logits once.

Algebra. `definition` gives the formulas for el2n and loss in terms of m, the largest logit other
than the label's. They hold for any reference in m's place, so the kernel keeps one that lags:

    r   the reference: a logit other than the label's, never more than 8 below the largest so far
    S1 = sum_{i != y} e^(z_i - r),   S2 = sum_{i != y} (e^(z_i - r))^2

A block of classes moves r only when its maximum exceeds r + 8, and then S1 and S2 are scaled by
e^(old r - new r) and its square. Usually the first block fixes r for good, so the error of the
scaling enters once or twice, not once a block. Terms stay below e^8 and S1 at or above 1, so
nothing overflows or vanishes in fp32.

Design. One program a row; a loop over blocks of classes with one exponential a logit, squared for
S2 (a second exponential would be bound by the special-function units for 16-bit logits on Hopper).
The label is left out in registers. Sums are kept a lane: a lane adds C / BLOCK terms, then the
lanes are added as a tree. BLOCK depends on C and the dtype only, so a row's bits do not depend on
the batch.

Accuracy. fp64 logits are subtracted from r in fp64; everything else is fp32. Rounding z - r costs at
most 2^-21 where a term still counts, the hardware exponential of it about as much, the sums C/BLOCK
roundings. The two exponentials and the logarithm of the closed forms, on which a confident row's
score hangs alone, are evaluated with a split argument. Relative error <= 4e-6 for el2n and loss
down to 1e-12.

Bytes: rows * C * itemsize read, 8 a row read for the label, 4 a row and metric written. Rows that
are not scored are not read.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastprune.scores.layout import as_rows, unit_class_stride

_LAG = tl.constexpr(8.0)


@triton.jit
def _exp(x):
    """e^x for a scalar fp32 x <= 0 to within 2 ulp; 0 below -150, for -inf too.

    The plain tl.exp multiplies by log2(e) in fp32, which for x = -28 alone costs 1.3e-6.
    """
    x = tl.maximum(x, -150.0)
    n = tl.floor(x * 1.44269504 + 0.5)
    r = (x - n * 0.693359375) + n * 2.1219444e-4  # ln 2 in two parts, the first one exact times n
    q = 0.0013814539 * r + 0.008368745
    q = q * r + 0.04166839
    q = q * r + 0.16666521
    q = q * r + 0.49999994
    return (q * r * r + r + 1.0) * tl.exp2(n)


@triton.jit
def _log1p(x):
    """log(1 + x) for a scalar fp32 x >= 0.

    Up to 1 as 2 atanh(x / (2 + x)), whose series in s^2 <= 1/9 ends at 1e-8.
    """
    s = x / (2.0 + x)
    s2 = s * s
    series = s2 / 15.0 + 1.0 / 13.0
    series = series * s2 + 1.0 / 11.0
    series = series * s2 + 1.0 / 9.0
    series = series * s2 + 1.0 / 7.0
    series = series * s2 + 1.0 / 5.0
    series = series * s2 + 1.0 / 3.0
    return tl.where(x <= 1.0, 2.0 * s + 2.0 * s * s2 * series, tl.log(1.0 + x))


@triton.jit
def row_scores_kernel(
    logits,  # IN  (B, T, C) fp16/bf16/fp32/fp64, class stride 1
    labels,  # IN  (B, T) int64
    el2n,  # OUT (B, T) fp32 contiguous; not touched unless EL2N
    loss,  # OUT (B, T) fp32 contiguous; not touched unless LOSS
    tokens,  # T
    classes,  # C
    logits_batch_stride,  # in elements, as the next three
    logits_token_stride,
    labels_batch_stride,
    labels_token_stride,
    shift,  # row (b, t) is scored against label (b, t + shift)
    ignore_index,
    EL2N: tl.constexpr,
    LOSS: tl.constexpr,
    DOUBLE: tl.constexpr,  # logits are fp64
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    b = row // tokens
    t = row % tokens

    has_label = t + shift < tokens
    label_at = labels + b * labels_batch_stride + (t + shift) * labels_token_stride
    label = tl.load(label_at, mask=has_label, other=0)
    counted = has_label & (label != ignore_index)
    valid = counted & (label >= 0) & (label < classes)

    z_row = logits + b * logits_batch_stride + t * logits_token_stride
    z_label = tl.load(z_row + label, mask=valid, other=0.0)
    if DOUBLE:
        r = tl.full((), float("-inf"), tl.float64)
    else:
        r = tl.full((), float("-inf"), tl.float32)
        z_label = z_label.to(tl.float32)

    sums1 = tl.zeros((BLOCK,), tl.float32)
    sums2 = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, tl.where(valid, classes, 0), BLOCK):
        column = start + tl.arange(0, BLOCK)
        z = tl.load(z_row + column, mask=column < classes, other=float("-inf"))
        if not DOUBLE:
            z = z.to(tl.float32)
        # Not by the load's mask: one that differs within 16 bytes would split the vector loads.
        z = tl.where(column == label, float("-inf"), z)
        top = tl.max(z, axis=0)
        new_r = tl.where(top > r + _LAG, top, r)
        # While every logit so far is -inf there is no reference: with 0 all terms are 0.
        finite_r = tl.where(new_r == float("-inf"), 0.0, new_r)
        scale = tl.exp((r - finite_r).to(tl.float32))
        e = tl.exp((z - finite_r).to(tl.float32))
        sums1 = sums1 * scale + e
        sums2 = sums2 * (scale * scale) + e * e
        r = new_r
    s1 = tl.sum(sums1, axis=0)
    s2 = tl.sum(sums2, axis=0)

    # A NaN or +inf among the others has made s1 NaN.
    alone = r == float("-inf")
    is_nan = (s1 != s1) | (z_label != z_label) | (z_label == float("inf")) | (counted != valid)
    is_nan = is_nan | (alone & (z_label == float("-inf")))

    gap = (z_label - r).to(tl.float32)
    w = _exp(tl.minimum(-gap, 0.0))
    p = _exp(tl.minimum(gap, 0.0))
    if EL2N:
        score = w * tl.sqrt(s1 * s1 + s2) / (w * s1 + p)
        score = tl.where(is_nan, float("nan"), tl.where(alone, 0.0, score))
        tl.store(el2n + row, tl.where(counted, score, 0.0))
    if LOSS:
        score = tl.where(gap >= 0.0, _log1p(s1 * w), tl.log(s1 + p) - gap)
        score = tl.where(is_nan, float("nan"), tl.where(alone, 0.0, score))
        tl.store(loss + row, tl.where(counted, score, 0.0))


def launch_config(classes: int, dtype: torch.dtype) -> dict[str, int]:
    """Block size and warps for C classes of a dtype; of nothing else, so results do not depend on it."""
    largest = 2048 if dtype == torch.float64 else 4096
    block = min(triton.next_power_of_2(classes), largest)
    return {"BLOCK": block, "num_warps": min(max(block // 512, 1), 8)}


def row_scores(
    logits: Tensor, labels: Tensor, metrics: tuple[str, ...], ignore_index: int, shift: int
) -> dict[str, Tensor]:
    """Scores of every row by the Triton kernel; the contract of `definition.row_scores`, and:

    Args:
        logits: (..., C) float16, bfloat16, float32 or float64 on a GPU, any strides.
        labels: (...) int64 on the same GPU, any strides. Labels outside [0, C) score NaN: to raise
            would need a synchronisation.

    Returns:
        One contiguous fp32 tensor of labels.shape for each metric, relative error <= 4e-6. Every
        row is written.

    Cost: one read of the logits; no synchronisation. The logits are copied only if their class
    dimension is not contiguous or their leading dimensions do not collapse to one.
    """
    scores = {metric: torch.empty(labels.shape, dtype=torch.float32, device=logits.device) for metric in metrics}
    launch(logits, labels, scores, ignore_index, shift)
    return scores


def launch(logits: Tensor, labels: Tensor, out: dict[str, Tensor], ignore_index: int, shift: int) -> None:
    """Runs the kernel into `out`: contiguous fp32 tensors of labels.shape under "el2n" and/or "loss"."""
    rows = labels.numel()
    if rows == 0:
        return
    z, y = as_rows(unit_class_stride(logits), labels)
    # An output that is not wanted still needs a pointer; the kernel has no code that uses it.
    unused = next(iter(out.values()))
    with torch.cuda.device_of(logits):
        row_scores_kernel[(rows,)](
            z,
            y,
            out.get("el2n", unused),
            out.get("loss", unused),
            z.shape[1],
            z.shape[2],
            z.stride(0),
            z.stride(1),
            y.stride(0),
            y.stride(1),
            shift,
            ignore_index,
            EL2N="el2n" in out,
            LOSS="loss" in out,
            DOUBLE=z.dtype == torch.float64,
            enable_fp_fusion=True,  # the bound holds with and without; Triton warns about a default
            **launch_config(z.shape[2], z.dtype),
        )
