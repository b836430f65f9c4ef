"""The arithmetic of the row scores as Triton functions, for single rows and for vectors of rows alike.

`definition` gives the formulas. Here they start from sums over the classes other than the label. All sums are relative
to m, the largest logit of these classes:

    S1 = sum e^(z_i - m)                   S2 = sum (e^(z_i - m))^2
    R  = S1 without one occurrence of m    T  = sum e^(z_i - m) (m - z_i)
    D  = SMALL sum w_i (m - z_i)           W  = sum w_i, the weights of these classes

R and T are for the entropy alone. R is a sum of its own and not S1 - 1. Where the model is sure of a wrong class, the
entropy depends on what is left of S1 below the last digit of 1.

D and W are for label smoothing alone. All terms of D are positive, so nothing cancels.

The sums of two parts of a row merge without reading anything again (`merge`). `triton_results` turns the sums of a
whole row into its scores. It uses the two exponentials and the logarithm below, which are accurate, because the score
of a confident row depends on them alone.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)
# Beyond this distance a term is 0 in fp32. A finite number in place of infinity keeps 0 * distance at 0.
FAR = tl.constexpr(200.0)
# A factor of the sums that smoothing needs. Many logits of -1e38 add up to more than fp32 holds. Times this power of
# two they do not, and no digit changes.
SMALL = tl.constexpr(2.0**-32)


@triton.jit
def exp(x):
    """e^x for fp32 x <= 20 to within 2 ulp, and 0 below -150 and for -inf.

    The plain tl.exp multiplies by log2(e) in fp32. For x = -28 that alone costs 1.3e-6.
    """
    x = tl.maximum(x, -150.0)
    n = tl.floor(x * LOG2_E + 0.5)
    r = (x - n * 0.693359375) + n * 2.1219444e-4  # ln 2 in two parts, the first one exact times n
    q = 0.0013814539 * r + 0.008368745
    q = q * r + 0.04166839
    q = q * r + 0.16666521
    q = q * r + 0.49999994
    return (q * r * r + r + 1.0) * tl.exp2(n)


@triton.jit
def log1p(x):
    """log(1 + x) for fp32 x >= 0, or above -1e-6.

    Up to 1 it is 2 atanh(x / (2 + x)). The series of that in s^2 <= 1/9 ends at 1e-8.
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
def small_difference(a, b):
    """(a - b) SMALL in fp32. It is rounded as a - b is, but cannot overflow. For many b, a * SMALL is computed once."""
    return tl.fma(b, -SMALL, a * SMALL).to(tl.float32)


@triton.jit
def moved_spread(d, w, m, m_before):
    """D relative to m, from d, which is D relative to m_before. w is the sum of the weights.

    If all logits are -inf, m is -inf too, and D stays inf. If there are none, D stays 0.
    """
    return d + tl.where((w > 0.0) & (m > float("-inf")), small_difference(m, m_before) * w, 0.0)


@triton.jit
def distance(higher, lower):
    """higher - lower in fp32, at most FAR. It is FAR if lower is -inf, even if both are."""
    return tl.where(lower == float("-inf"), FAR, tl.minimum((higher - lower).to(tl.float32), FAR))


@triton.jit
def merge(m_a, s1_a, s2_a, r_a, t_a, m_b, s1_b, s2_b, r_b, t_b, ENTROPY: tl.constexpr):
    """The sums of two disjoint sets of classes, as those of their union. An empty set has m = -inf and zeros.

    R leaves out one of the two maxima. The other set then counts whole.
    """
    a_leads = m_a >= m_b
    m = tl.where(a_leads, m_a, m_b)
    d = distance(m, tl.where(a_leads, m_b, m_a))
    w = exp(-d)
    w_a = tl.where(a_leads, 1.0, w)
    w_b = tl.where(a_leads, w, 1.0)
    s1 = s1_a * w_a + s1_b * w_b
    s2 = s2_a * (w_a * w_a) + s2_b * (w_b * w_b)
    if ENTROPY:
        # In the order of the leading set and the other: the other's largest is d below m.
        r = tl.where(a_leads, r_a, r_b) + w * tl.where(a_leads, s1_b, s1_a)
        t = tl.where(a_leads, t_a, t_b) + w * (tl.where(a_leads, t_b, t_a) + tl.where(a_leads, s1_b, s1_a) * d)
    else:
        r = r_a
        t = t_a
    return m, s1, s2, r, t


@triton.jit
def entropy_of(gap, w, p, s1, r, t):
    """-sum p_i log p_i, with gap = z_y - m, w = e^(m - M) and p = e^(z_y - M)."""
    label_leads = gap >= 0.0
    near = tl.minimum(tl.abs(gap), FAR)
    below = tl.where(label_leads, w * s1, r + p)
    below_t = tl.where(label_leads, w * (t + s1 * near), t + p * near)
    return log1p(below) + below_t / (1.0 + below)
