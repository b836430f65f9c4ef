// The exponential and the logarithm that scores need, on registers of floats.
//
// Included once for each instruction set, by scores/row_kernels-inl.h and scores/tile_kernels-inl.h.
//
// Cost: about a dozen operations a register, without branches or tables. A call of the C library for every value would
// take longer than all sums of a row of 100 classes.

// Below this an exponential counts as e^-43 = 2e-19. Suppose that a sum of C terms holds a one. Then such terms change
// it by less than C * 2e-19, far less than a float resolves. The square of e^-43 is still a normal number, and that
// matters: arithmetic on subnormal numbers costs a hundred cycles on many processors.
constexpr float kSmallestExponent = -43.0f;
constexpr float kSmallestNormal = -87.0f;  // e^-87 is the smallest value that exp_nonpositive can make

// x - n ln 2.
FASTPRUNE_INLINE F32 less_multiple_of_ln2(F32 x, F32 n) {
  // ln 2 rounded to a float is off by 2.8e-9 of itself, so one fused constant is enough.
  if constexpr (kFusedFma) return fma(n, splat(-0.693147182f), x);
  // Otherwise ln 2 goes in two parts. The first part times n is exact.
  return (x - n * 0.693359375f) + n * 2.1219444e-4f;
}

// e^r for |r| <= ln(2) / 2, as 1 + r + r^2 q(r) with q a minimax polynomial of degree 3. The relative error is below
// 1.7e-7, of which 1.1e-7 is the polynomial's. e^0 is exactly 1.
FASTPRUNE_INLINE F32 exp_reduced(F32 r) {
  F32 q = fma(r, splat(0.008312501f), splat(0.04189033f));
  q = fma(q, r, splat(0.16667116f));
  q = fma(q, r, splat(0.4999923f));
  return fma(fma(q, r, splat(1.0f)), r, splat(1.0f));
}

// e^x for smallest <= x <= 0, e^smallest below that, and NaN for NaN. Requires smallest >= -87. The relative error is
// below 2.3e-7. It writes x as n ln 2 + r.
FASTPRUNE_INLINE F32 exp_nonpositive(F32 x, float smallest = kSmallestExponent) {
  x = max_lanes(splat(smallest), x);
  const F32 magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const F32 shifted = fma(x, splat(1.44269504f), magic);
  const F32 e = exp_reduced(less_multiple_of_ln2(x, shifted - magic));
  // The low bits of `shifted` hold n. Moved into the exponent field, they multiply e by 2^n.
  return (F32)((I32)e + ((I32)shifted << 23));
}

// log(1 + v) for v >= 0. The relative error is below 3e-7.
//
// 1 + v = 2^k f with f in [sqrt(1/2), sqrt 2), and log f = 2 atanh((f - 1) / (f + 1)). Rounding 1 + v loses a little,
// which is added again in first order.
FASTPRUNE_INLINE F32 log1p_nonnegative(F32 v) {
  const F32 one = splat(1.0f), y = one + v;
  const I32 moved = (I32)y + (0x3f800000 - 0x3f3504f3);  // 1 less sqrt(1/2)
  const F32 k = (F32)((moved >> 23) + (0x4b000000 - 127)) - splat(8388608.0f);
  const F32 f = (F32)((moved & 0x007fffff) + 0x3f3504f3);
  const F32 s = (f - one) / (f + one), s2 = s * s;
  F32 series = fma(s2, splat(1.0f / 9), splat(1.0f / 7));
  series = fma(series, s2, splat(1.0f / 5));
  series = fma(series, s2, splat(1.0f / 3));
  const F32 log_f = fma(s2 * series, s + s, s + s);
  return fma(k, splat(0.693147182f), log_f) + (v - (y - one)) / y;
}
