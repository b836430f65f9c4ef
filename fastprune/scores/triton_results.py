"""Turns the sums of a row into its scores, its loss, and the values that its gradient needs.

`triton_math` defines the sums m, S1, S2, R, T, D and W. z_y is the logit of the label, M = max(m, z_y), w = e^(m - M)
and p = e^(z_y - M). Then:

    Z          = w S1 + p,  relative to e^M
    el2n       = w sqrt(S1^2 + S2) / Z
    loss       = log Z + max(m - z_y, 0)
    confidence = p / Z
    margin     = z_y - m
    correct    = 1 if z_y >= m, else 0
    entropy    in `triton_math.entropy_of`

If all logits but the label's are -inf, m is -inf. Then the limits of the formulas are stored. Rows that are not
counted get 0 in every output. Rows with a NaN, with a logit of +inf or with a label out of range get NaN.

Bytes: 4 are written for each row and each output.
"""

from __future__ import annotations

from functools import cache

import triton
import triton.language as tl

from fastprune.scores.triton_math import SMALL, entropy_of, exp, log1p, moved_spread, small_difference

# A kernel takes the metrics that it computes as a set of bits, in the order of the lines of `scores`. A tuple of names
# would be plainer. But kernels have no `in` up to Triton 3.9, and Triton 3.2 cannot index a tuple of constants.
EL2N = tl.constexpr(1)
LOSS = tl.constexpr(2)
CONFIDENCE = tl.constexpr(4)
MARGIN = tl.constexpr(8)
ENTROPY = tl.constexpr(16)
CORRECT = tl.constexpr(32)
_BITS = {
    "el2n": EL2N,
    "loss": LOSS,
    "confidence": CONFIDENCE,
    "margin": MARGIN,
    "entropy": ENTROPY,
    "correct": CORRECT,
}


@cache
def in_order(metrics: tuple[str, ...]) -> tuple[str, ...]:
    """The metrics, each once, in the order in which a kernel writes them."""
    return tuple(metric for metric in _BITS if metric in metrics)


def bits_of(metrics: tuple[str, ...]) -> int:
    """The set of metrics as a kernel takes it."""
    return sum(_BITS[metric].value for metric in in_order(metrics))


@triton.jit
def _parts(counted, valid, z_label, m, s1):
    """(undefined, gap, w, p): a mask of the rows that give NaN, the gap z_y - m, and the two exponentials."""
    inf: tl.constexpr = float("inf")
    # A NaN among the other classes, or a product of +inf and 0, has already made s1 NaN.
    undefined = (s1 != s1) | (z_label != z_label) | (m == inf) | (z_label == inf) | (counted != valid)
    undefined = undefined | ((m == -inf) & (z_label == -inf))
    gap = (z_label - m).to(tl.float32)
    return undefined, gap, exp(tl.minimum(-gap, 0.0)), exp(tl.minimum(gap, 0.0))


@triton.jit
def _log_z(undefined, gap, w, p, m, s1):
    """log of the sum of e^(z_i - M) over all classes."""
    log_z = tl.where(gap >= 0.0, log1p(w * s1), log1p((s1 - 1.0) + p))
    return tl.where(undefined, float("nan"), tl.where(m == float("-inf"), 0.0, log_z))


@triton.jit
def store_scores(
    scores,  # OUT (metrics, rows) fp32 contiguous: one line for each bit of METRICS, from the lowest
    row,  # int64, a scalar or a vector, as all values
    rows,
    counted,
    valid,
    z_label,
    m,
    s1,
    s2,
    r,
    t,
    METRICS: tl.constexpr,
):
    """Writes the scores of rows from their sums."""
    stored = row < rows
    nan: tl.constexpr = float("nan")
    undefined, gap, w, p = _parts(counted, valid, z_label, m, s1)
    alone = m == float("-inf")
    z_sum = w * s1 + p
    to = scores + row
    if EL2N & METRICS:
        score = w * tl.sqrt(s1 * s1 + s2) / z_sum
        score = tl.where(undefined, nan, tl.where(alone, 0.0, score))
        tl.store(to, tl.where(counted, score, 0.0), mask=stored)
        to += rows
    if LOSS & METRICS:
        score = _log_z(undefined, gap, w, p, m, s1) + tl.maximum(-gap, 0.0)
        tl.store(to, tl.where(counted, score, 0.0), mask=stored)
        to += rows
    if CONFIDENCE & METRICS:
        score = tl.where(undefined, nan, tl.where(alone, 1.0, p / z_sum))
        tl.store(to, tl.where(counted, score, 0.0), mask=stored)
        to += rows
    if MARGIN & METRICS:
        score = tl.where(undefined, nan, gap)
        tl.store(to, tl.where(counted, score, 0.0), mask=stored)
        to += rows
    if ENTROPY & METRICS:
        score = entropy_of(gap, w, p, s1, r, t)
        score = tl.where(undefined, nan, tl.where(alone, 0.0, score))
        tl.store(to, tl.where(counted, score, 0.0), mask=stored)
        to += rows
    if CORRECT & METRICS:
        score = tl.where(undefined, nan, tl.where(z_label >= m, 1.0, 0.0))  # a gap of fp64 may round to 0
        tl.store(to, tl.where(counted, score, 0.0), mask=stored)


@triton.jit
def store_loss(
    losses,  # OUT (rows,) fp32: the loss of each row, before any reduction
    state,  # OUT (3 rows + 1,) fp32: M of all rows, then 1 / Z, then 1 - p_y, and last a 1
    weight,  # IN  (classes,) fp32, or None for ones
    weight_sum,  # IN  () fp32, their sum; None without a weight or without smoothing
    row,
    rows,
    classes,
    counted,
    valid,
    label,
    z_label,
    m,
    s1,
    d,
    w_others,  # W of `triton_math`: of the classes other than the label
    label_smoothing,  # None if nothing is smoothed
):
    """Writes the loss of rows, and the state from which `triton_gradient` makes their gradient."""
    stored = row < rows
    nan: tl.constexpr = float("nan")
    undefined, gap, w, p = _parts(counted, valid, z_label, m, s1)
    others = w * s1
    z_sum = others + p
    top = tl.maximum(m, z_label)
    log_z = _log_z(undefined, gap, w, p, m, s1)
    w_label = 1.0
    if weight is not None:
        w_label = tl.load(weight + label, mask=valid & stored, other=0.0)
    value = w_label * (log_z + tl.maximum(-gap, 0.0))
    if label_smoothing is not None:
        w_all = classes * 1.0
        if weight is not None:
            w_all = tl.load(weight_sum)
        # sum w_i (log_z + M - z_i), first relative to the largest of all, M. All terms are positive.
        lead = small_difference(z_label, m)
        d = moved_spread(d, w_others, top, m) + w_label * tl.maximum(-lead, 0.0)
        spread = (w_all / classes) * log_z + d * ((1.0 / SMALL) / classes)
        # With a label_smoothing of 1, the loss of the label counts for nothing, even if it is infinite.
        value = tl.where(label_smoothing == 1.0, 0.0, (1.0 - label_smoothing) * value) + label_smoothing * spread
    tl.store(losses + row, tl.where(counted, value, 0.0), mask=stored)
    tl.store(state + row, tl.where(counted, top, 0.0), mask=stored)
    tl.store(state + (row + rows), tl.where(counted, tl.where(undefined, nan, 1.0 / z_sum), 0.0), mask=stored)
    missing = tl.where(undefined, nan, others / z_sum)
    tl.store(state + (row + rows + rows), tl.where(counted, missing, 0.0), mask=stored)
    if tl.program_id(0) == 0:
        tl.store(state + rows + rows + rows, 1.0)
