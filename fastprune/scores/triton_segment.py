"""The sums over one segment of a long row, as a Triton function: every logit is read once, into registers.

The reference. `triton_math` needs the sums relative to the largest logit m, which is known only at the end. So they are
taken relative to a guess r, the largest of the segment's first ~1000 logits. At the end they are scaled once by
e^(r - m). The terms are at most e^(m - r). If m is more than LAG above r, the segment is read again with r = m. That
happens if the first part was masked, or if a single large logit follows. A segment has at most 128 KB, so the second
reading finds it in the L2 cache.

Online softmax updates its reference inside the loop. All threads would then need the maximum of every block. That costs
two barriers and about 40 instructions a block, and loads overlap less. A guess avoids all of this. For a 16-bit logit
the loop is

    unpack, max, x = fma(z, log2 e, -c), e = 2^x, S1 += e, S2 = fma(e, e, S2)

These are six instructions, one of them an exponential, and 1 to 2 more of bookkeeping. An H200 reads 4.8 TB/s. In the
time of one 16-bit logit it can issue 12 instructions and 1.5 exponentials. For a B200 at 8 TB/s it is 9 and 1.1.

c is the rounded product of r and log2 e. So the sums are exactly those relative to c / log2 e. An fma gives the
rounding error of c exactly, and the scaling at the end takes it in. Only the rounding of x itself is left. It is at
most 2^-19 for a term that counts. Logits that do not have 16 bits need no c, because r is subtracted from them first.

The rounding error of c grows with |r|. Masks such as -1e10 are common, and there 2^error would overflow. Of the 16-bit
types only bfloat16 has logits with |r| >= 2^16. There two different logits are at least 256 apart, so a term is 1 where
z = r and 0 elsewhere. That is so for any slope. So the slope is set to 1, and c = r has no error.

Lanes. The sums are kept in LANES lanes. Class i is added to lane i % LANES, each lane in order, and the lanes are added
at the end. Each thread loads 16 bytes. The loads start at the aligned address at or below the first class, so they are
aligned even if the row is not. (Rows of 50,257 16-bit classes have eight different alignments.) If a row starts s
elements above such an address, its class i is in lane i + s. The lanes are rotated back by s before they are added. So
the bits of a row depend on neither its address nor the batch. Up to 15 bytes before and after the row are loaded with
it and dropped. That is safe. They lie in the same 16 aligned bytes as a class of the row, so they are on its memory
page.

Entropy needs R and T (see `triton_math`) to full accuracy in one case: the segment's largest logit is above the
label's, and its term is most of S1. If entropy is asked for, such a segment is read again, too.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fastprune.scores.triton_math import FAR, LN_2, LOG2_E, exp, moved_spread, small_difference

LANES = tl.constexpr(1024)
# How many words one load reads. Two such tensors fill the lanes, or one if a word holds two logits.
_PIECE = tl.constexpr(512)
# Bounds x by 44, and so its rounding by 2^-19, which is 1.3e-6 of a term. It also keeps the squares of the terms below
# e^60. A much smaller LAG would read too often again: where a language model is sure of a word, the logit of that word
# is more than 16 above a thousand others.
LAG = tl.constexpr(30.0)
# The smallest |r| whose bfloat16 neighbours are at least 256 away. e^-256 is 0 in fp32.
_HUGE = tl.constexpr(65536.0)
# Triton before 3.3 has no gather, so it cannot rotate lanes. There a thread loads one element at a time.
_ROTATE = tl.constexpr(hasattr(tl, "gather"))

if _ROTATE.value:

    @triton.jit
    def _rotated_back(lanes, s):
        return tl.gather(lanes, (tl.arange(0, LANES) + s) % LANES, 0)

else:

    @triton.jit
    def _rotated_back(lanes, s):
        return lanes


@triton.jit
def _load(at, left, lane, PACKED: tl.constexpr):
    """_PIECE words from `at` on. Words that hold none of the next `left` elements are undefined.

    All words of one 16-byte load have the same mask. A finer mask would split the load.
    """
    if _ROTATE:
        words: tl.constexpr = 128 // at.dtype.element_ty.primitive_bitwidth
        mask = lane // words * (2 * words if PACKED else words) < left
    else:
        mask = lane < left
    return tl.load(at + lane, mask=mask)


@triton.jit
def _unpack(words, F16: tl.constexpr):
    """Words of two 16-bit logits each, as fp32 (_PIECE, 2).

    The loop carries words and not 16-bit values. Triton would unpack 16-bit values right after their load, and so wait
    for it at once.
    """
    if F16:
        first = words.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
        second = (words >> 16).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    else:
        first = (words << 16).to(tl.float32, bitcast=True)
        second = (words & -0x10000).to(tl.float32, bitcast=True)
    return tl.join(first, second)


@triton.jit
def _lane_logits(at, left, lane, PACKED: tl.constexpr, F16: tl.constexpr, DOUBLE: tl.constexpr):
    """The next logit of every lane."""
    if PACKED:
        z = _unpack(_load(at, left, lane, PACKED), F16)
    else:
        z = tl.join(_load(at, left, lane, PACKED), _load(at + _PIECE, left - _PIECE, lane, PACKED))
        if not DOUBLE:
            z = z.to(tl.float32)
    return z


@triton.jit
def _is_other(place, classes, label):
    """Whether a place, counted from the segment's first class, holds a class of the segment other than the label."""
    return (place.to(tl.uint32, bitcast=True) < classes.to(tl.uint32)) & (place != label)


@triton.jit
def _others_only(
    z,  # one logit a lane
    r,
    position,
    start,  # the position of lane 0
    s,
    special,  # the next block in which some lane may hold the label or no class at all
    label_block,
    last_block,
    classes,
    label,
    SMOOTH: tl.constexpr,
):
    """(z, below, special), where an "other class" is any class but the label.

    Lanes that hold no other class have -inf in z, and r in below if SMOOTH.
    """
    below = z
    if start >= special:  # the same in all threads, so the other blocks pay for one comparison
        other = _is_other(position + (start - s), classes, label)
        if SMOOTH:
            below = tl.where(other, z, r)
        z = tl.where(other, z, float("-inf"))
        special = tl.where(start < label_block, label_block, last_block)
    return z, below, special


@triton.jit
def _added(z, r, slope, c, top, s1, s2, t, PACKED: tl.constexpr, ENTROPY: tl.constexpr):
    """(top, S1, S2, T) after one more logit in every lane."""
    if PACKED:
        x = tl.fma(z, slope, -c)
    else:
        x = (z - r).to(tl.float32) * slope
    e = tl.exp2(x)
    top = tl.maximum(top, z)
    s1 += e
    s2 = tl.fma(e, e, s2)
    if ENTROPY:
        # 0 * -inf would be NaN. A NaN logit is not lost, because s1 has it.
        t = tl.fma(e, tl.maximum(x, -FAR), t)
    return top, s1, s2, t


@triton.jit
def _spread_added(
    d,
    w_sum,
    r,
    below,  # one logit a lane, r in lanes that hold no other class
    weight,  # IN  (classes,) fp32, or None for ones
    position,
    start,
    s,
    classes,
    label,
):
    """(D, W) after one more logit in every lane. W changes only if there is a weight."""
    below = small_difference(r, below)
    if weight is None:
        d += below
    else:
        place = position + (start - s)
        w = tl.load(weight + place, mask=_is_other(place, classes, label), other=0.0)
        d = tl.fma(w, below, d)
        w_sum += w
    return d, w_sum


@triton.jit
def _first_words(first, end, lane, PACKED: tl.constexpr):
    """The words that the first turn of the loop works on."""
    return _load(first, end, lane, PACKED), _load(first + _PIECE, end - (LANES if PACKED else _PIECE), lane, PACKED)


@triton.jit
def _lane_sum(lanes, s, PACKED: tl.constexpr):
    """The sum over the lanes, which are rotated by s. Its order does not depend on s."""
    if not PACKED:
        lanes = tl.trans(lanes)
    return tl.sum(_rotated_back(tl.reshape(lanes, (LANES,)), s), axis=0)


@triton.jit
def _without_largest(
    first, lane, position, s, classes, label, m, PACKED: tl.constexpr, F16: tl.constexpr, DOUBLE: tl.constexpr
):
    """(R, T) relative to the segment's largest logit m. Reads the segment once more."""
    r = tl.zeros((_PIECE, 2), tl.float32)
    t = tl.zeros((_PIECE, 2), tl.float32)
    equal = tl.zeros((_PIECE, 2), tl.int32)
    at = first
    end = classes + s
    for start in range(0, end, LANES):
        z = _lane_logits(at, end - start, lane, PACKED, F16, DOUBLE)
        at += LANES // 2 if PACKED else LANES
        other = _is_other(position + (start - s), classes, label)
        equal += (other & (z == m)).to(tl.int32)
        below = tl.where(other & (z < m), (m - z).to(tl.float32), float("inf"))
        e = tl.exp2(below * -LOG2_E)
        r += e
        t = tl.fma(e, tl.minimum(below, FAR), t)
    ties = tl.sum(tl.sum(equal, axis=1), axis=0) - 1
    return ties.to(tl.float32) + _lane_sum(r, s, PACKED), _lane_sum(t, s, PACKED)


@triton.jit
def segment_sums(
    logits,  # IN  (classes,) fp16/bf16/fp32/fp64: the segment
    weight,  # IN  (classes,) fp32: the weights of its classes, or None for ones
    classes,  # how many classes the segment has. If 0, nothing is read
    label,  # the label's place in the segment, or any number outside [0, classes)
    z_label,  # the label's logit, fp64 for fp64 logits, else fp32
    ENTROPY: tl.constexpr,
    SMOOTH: tl.constexpr,
):
    """The sums over the segment's classes other than the label.

    Returns:
        (m, S1, S2, R, T, D, W), or -inf and zeros if there are no such classes. R and T are valid only if ENTROPY, D
        and W only if SMOOTH. m has the dtype of z_label, and the others are fp32.
    """
    BITS: tl.constexpr = logits.dtype.element_ty.primitive_bitwidth
    F16: tl.constexpr = logits.dtype.element_ty == tl.float16
    DOUBLE: tl.constexpr = BITS == 64
    PACKED: tl.constexpr = _ROTATE and BITS == 16
    TURNS: tl.constexpr = 2 if PACKED else 1  # how many logits each lane takes in one turn of the loop

    # Positions count elements from `first`, which is s elements below the first class.
    zero = tl.full((), 0, tl.int32)
    s = zero
    first = logits
    if _ROTATE:
        address = logits.to(tl.int64)
        s = (address % 16 // (BITS // 8)).to(tl.int32)
        element: tl.constexpr = tl.int32 if PACKED else logits.dtype.element_ty
        first = tl.multiple_of((address // 16 * 16).to(tl.pointer_type(element)), 16)
    end = tl.where(classes > 0, classes + s, 0)

    lane = tl.arange(0, _PIECE)
    half = tl.arange(0, 2)
    position = 2 * lane[:, None] + half[None, :] if PACKED else lane[:, None] + _PIECE * half[None, :]

    # Blocks of LANES positions that do not hold other classes alone: the first one if s > 0, the label's, the last.
    last_block = (end - 1) // LANES * LANES
    label_block = tl.where((label >= 0) & (label < classes), (label + s) // LANES * LANES, last_block)
    first_special = tl.where(s > 0, 0, label_block)

    words0, words1 = _first_words(first, end, lane, PACKED)

    # The guess is the largest of those classes that the first block holds for every s. So it does not depend on s.
    if PACKED:
        head = _unpack(words0, F16)
    else:
        head = tl.join(words0, words1).to(z_label.dtype)
    known = _is_other(position - s, tl.minimum(classes, LANES - 128 // BITS), label)
    r = tl.max(tl.max(tl.where(known, head, float("-inf")), axis=1), axis=0)
    r = tl.where(r == float("-inf"), 0.0, r).to(z_label.dtype)

    zeros = tl.zeros((_PIECE, 2), tl.float32)
    s1 = zeros
    s2 = zeros
    t = zeros
    d = zeros
    w_sum = zeros
    m = r
    c = tl.full((), 0.0, tl.float32)
    slope = tl.full((), LOG2_E, tl.float32)
    unread = end >= 0
    while unread:
        if PACKED:
            slope = tl.where(tl.abs(r) < _HUGE, LOG2_E, 1.0).to(tl.float32)
            c = r * slope
        s1 = zeros
        s2 = zeros
        t = zeros
        d = zeros
        w_sum = zeros
        top = tl.full((_PIECE, 2), float("-inf"), z_label.dtype)
        special = first_special
        at = first
        for offset in range(0, end, TURNS * LANES):
            at += LANES
            begin = zero + offset  # a tensor in the interpreter too
            left = end - begin - TURNS * LANES  # behind this turn
            for turn in tl.static_range(TURNS):
                # The words of the next turn are loaded while these are added.
                if not PACKED:
                    z = tl.join(words0, words1).to(z_label.dtype)
                    words0 = _load(at, left, lane, PACKED)
                    words1 = _load(at + _PIECE, left - _PIECE, lane, PACKED)
                elif turn == 0:
                    z = _unpack(words0, F16)
                    words0 = _load(at, left, lane, PACKED)
                else:
                    z = _unpack(words1, F16)
                    words1 = _load(at + _PIECE, left - LANES, lane, PACKED)
                start = begin + turn * LANES  # after the load, because ptxas of Triton 3.9 spills if it is before
                z, below, special = _others_only(
                    z, r, position, start, s, special, label_block, last_block, classes, label, SMOOTH
                )
                top, s1, s2, t = _added(z, r, slope, c, top, s1, s2, t, PACKED, ENTROPY)
                if SMOOTH:
                    d, w_sum = _spread_added(d, w_sum, r, below, weight, position, start, s, classes, label)
        m = tl.max(tl.max(top, axis=1), axis=0)
        unread = (m > float("-inf")) & (tl.abs(m - r) > LAG)
        if unread:
            r = m
            words0, words1 = _first_words(first, end, lane, PACKED)

    s1_r = _lane_sum(s1, s, PACKED)
    back = tl.where(m == float("-inf"), 0.0, r - m).to(tl.float32)
    if PACKED:
        back -= tl.fma(r, slope, -c) / slope
    scale = exp(back)
    s1_m = s1_r * scale
    s2_m = _lane_sum(s2, s, PACKED) * (scale * scale)
    r_m = s1_m - 1.0
    t_m = s1_m
    if ENTROPY:
        t_m = tl.maximum((s1_r * -back - _lane_sum(t, s, PACKED) * LN_2) * scale, 0.0)
        # In all other cases R is at least a fifth of S1, and r is at most 4 below m. So R and T are accurate already.
        if (z_label < m) & ((s1_m < 1.25) | (back < -4.0)):
            r_m, t_m = _without_largest(first, lane, position, s, classes, label, m, PACKED, F16, DOUBLE)
    d_m = s1_m
    w_all = s1_m
    if SMOOTH:
        if weight is not None:
            w_all = _lane_sum(w_sum, s, PACKED)
        else:
            w_all = (classes - ((label >= 0) & (label < classes)).to(tl.int32)).to(tl.float32)
        d_m = moved_spread(_lane_sum(d, s, PACKED), w_all, m, r)
    return m, s1_m, s2_m, r_m, t_m, d_m, w_all
