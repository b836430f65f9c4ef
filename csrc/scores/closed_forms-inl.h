// From the sums of kLanes rows to their scores. Included once for each instruction set.
//
// In vectors, as the sums: a library call for every exponential and logarithm would take longer than
// the sums of a row of 100 classes.

// What all scores of a register of rows are made of.
struct Closed {
  Vector gap;        // z_y - max
  Vector w, p;       // e^(max - M), e^(z_y - M)
  Vector s1, s2;     // the sums of e^(z_i - max) over the others, and of its square
  Vector others;     // the sum of e^(z_i - M) over the others
  Vector total;      // over all
  Vector v;          // total - 1, as the loss needs it: beside a gap or a label's share
  Vector rest;       // total - 1, as the entropy needs it: exact however small
  Vector spread;     // the sum of e^(z_i - max) (max - z_i) over the others
  Vector undefined;  // NaN where the row has no scores, else 0; added to all of them
  IntVector counted;
};

FASTPRUNE_INLINE Vector select(IntVector condition, Vector yes, Vector no) { return condition ? yes : no; }

// log(1 + v) for v >= 0. Relative error below 3e-7.
//
// 1 + v = 2^k f with f in [sqrt(1/2), sqrt 2); log f = 2 atanh((f - 1) / (f + 1)); what rounding 1 + v
// lost is added in first order.
FASTPRUNE_INLINE Vector log1p_nonnegative(Vector v) {
  const Vector one = splat(1.0f), y = one + v;
  const IntVector moved = (IntVector)y + (0x3f800000 - 0x3f3504f3);  // 1 less sqrt(1/2)
  const Vector k = (Vector)((moved >> 23) + (0x4b000000 - 127)) - splat(8388608.0f);
  const Vector f = (Vector)((moved & 0x007fffff) + 0x3f3504f3);
  const Vector s = (f - one) / (f + one), s2 = s * s;
  Vector series = fma(s2, splat(1.0f / 9), splat(1.0f / 7));
  series = fma(series, s2, splat(1.0f / 5));
  series = fma(series, s2, splat(1.0f / 3));
  const Vector log_f = fma(s2 * series, s + s, s + s);
  return fma(k, splat(0.693147182f), log_f) + (v - (y - one)) / y;
}

// All a group's rows. The gap, on which the whole of a confident row's score depends, is reduced in
// double: as a float, e^-28 would already be off by 1e-6.
template <class Element>
FASTPRUNE_INLINE void close(const RowGroup<Element>& rows, const GroupSums& group,
                            Closed (&closed)[kRegisters]) {
  constexpr int half = kWidth / 2;
  const DoubleVector zero = {}, infinite = zero + kInf<double>;
  const DoubleVector least = zero + static_cast<double>(std::numeric_limits<float>::min());
  const DoubleVector magic = zero + 6755399441055744.0;  // 1.5 * 2^52: adding it rounds
  for (int j = 0; j < kRegisters; ++j) {
    DoubleVector at_infinity[2], gap[2], n[2], r[2];
    for (int h = 0; h < 2; ++h) {
      const int i = j * kWidth + h * half;
      const DoubleVector z = load(group.label_logit + i), exact = z - load(group.max + i);
      const DoubleVector below = exact < 0.0 ? exact : -exact;
      const DoubleVector clamped = below > -88.0 ? below : zero - 88.0;
      n[h] = (clamped * 1.4426950408889634 + magic) - magic;
      r[h] = clamped - n[h] * 0.6931471805599453;
      // As floats, doubles beyond 3.4e38 would be infinite and the smallest gaps would be ties.
      at_infinity[h] = z == infinite ? infinite : zero;
      gap[h] = (exact < 0.0) & (exact > -least) ? -least : exact;
    }
    Closed& c = closed[j];
    const Vector one = splat(1.0f), zero = splat(0.0f), label = narrowed(at_infinity[0], at_infinity[1]);
    const auto at = [j](const Floats& floats) { return load(floats + j * kWidth); };
    c.gap = narrowed(gap[0], gap[1]);
    const IntVector scale = (IntVector)(narrowed(n[0], n[1]) + splat(12582912.0f)) << 23;
    const Vector power = (Vector)((IntVector)exp_reduced(narrowed(r[0], r[1])) + scale);
    // Below e^-87 there is no normal number.
    const IntVector representable = (c.gap >= splat(-87.0f)) & (c.gap <= splat(87.0f));
    const Vector smaller = select(representable, power, zero);
    const IntVector confident = c.gap >= zero;
    c.w = select(confident, smaller, one);
    c.p = select(confident, one, smaller);
    c.s1 = at(group.s1);
    c.s2 = at(group.s2);
    c.spread = at(group.spread);
    c.others = c.w * c.s1;
    c.total = c.others + c.p;
    c.v = select(confident, c.others, (c.s1 - one) + c.p);
    c.rest = select(confident, c.others, at(group.rest) + c.p);
    // A label of +inf leaves a gap like that of a label alone, but is no score.
    const IntVector bad = (c.gap != c.gap) | (c.s1 != c.s1) | (label == splat(kInf<float>));
    c.undefined = select(bad, splat(std::numeric_limits<float>::quiet_NaN()), zero);
    c.counted = rows.labels(j) >= 0;
  }
}

// Writes the first n rows of a group.
template <class Formula>
FASTPRUNE_INLINE void write(float* out, int n, const Closed (&closed)[kRegisters], const Formula& formula) {
  alignas(64) Floats values;
  for (int j = 0; j < kRegisters; ++j) {
    const Vector score = formula(closed[j], j) + closed[j].undefined;
    store(values + j * kWidth, select(closed[j].counted, score, Vector{}));
  }
  if (n == kLanes) {
    __builtin_memcpy(out, values, sizeof values);
  } else {
    for (int i = 0; i < n; ++i) out[i] = values[i];
  }
}

#define FASTPRUNE_FORMULA [&](const Closed& c, [[maybe_unused]] int j) __attribute__((always_inline)) -> Vector

FASTPRUNE_INLINE Vector loss_of(const Closed& c) {
  return max_lanes(-c.gap, Vector{}) + log1p_nonnegative(c.v);
}

template <Level kLevel>
FASTPRUNE_INLINE void write_scores(const RowScores& scores, std::int64_t row, int n,
                                   const Closed (&closed)[kRegisters]) {
  const auto at = [&](Metric metric) { return scores.metric[metric] + row; };
  if constexpr (kLevel >= kSquares) {
    if (scores.metric[kEl2n])
      write(at(kEl2n), n, closed,
            FASTPRUNE_FORMULA { return c.w * square_root(fma(c.s1, c.s1, c.s2)) / c.total; });
  }
  if (scores.metric[kLoss]) write(at(kLoss), n, closed, FASTPRUNE_FORMULA { return loss_of(c); });
  if (scores.metric[kConfidence])
    write(at(kConfidence), n, closed, FASTPRUNE_FORMULA { return c.p / c.total; });
  if (scores.metric[kMargin]) write(at(kMargin), n, closed, FASTPRUNE_FORMULA { return c.gap; });
  if (scores.metric[kCorrect])
    write(at(kCorrect), n, closed,
          FASTPRUNE_FORMULA { return select(c.gap >= Vector{}, splat(1.0f), Vector{}); });
  if constexpr (kLevel >= kSpread) {
    if (scores.metric[kEntropy])
      write(at(kEntropy), n, closed, FASTPRUNE_FORMULA {
        // A factor of 0 stands before what may be infinite: no others, or a masked label.
        const Vector sure = select(c.w > Vector{}, c.w * fma(c.s1, c.gap, c.spread), Vector{});
        const Vector unsure = c.spread - select(c.p > Vector{}, c.p * c.gap, Vector{});
        return log1p_nonnegative(c.rest) + select(c.gap >= Vector{}, sure, unsure) / c.total;
      });
  }
}
