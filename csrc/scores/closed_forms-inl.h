// The closed forms: from the sums of a group to the scores of its rows. row_scores.cpp has the algebra.
//
// Included once for each instruction set, by scores/row_kernels-inl.h and scores/tile_kernels-inl.h.
//
// Cost: one exponential and at most two logarithms for a row, on registers of rows, whatever the number of classes.

// What all scores of a register of rows are made of. z_y is the label's logit, max the largest of the others, and
// M the larger of both.
struct Closed {
  F32 gap;        // z_y - max
  F32 w, p;       // e^(max - M), e^(z_y - M)
  F32 s1, s2;     // the sums of e^(z_i - max) over the others, and of its square
  F32 others;     // the sum of e^(z_i - M) over the others
  F32 total;      // over all
  F32 v;          // total - 1 for the loss: precise beside a gap or a label's share
  F32 rest;       // total - 1 for the entropy: precise however small
  F32 spread;     // the sum of e^(z_i - max) (max - z_i) over the others
  F32 undefined;  // NaN where the row has no scores, else 0. Every score adds it.
  I32 counted;    // mask: other rows score 0
};

// Closes all rows of a group. The whole score of a confident row depends on its gap. So e^gap is reduced in double:
// with a gap in float, e^-28 would be off by 1e-6 already.
template <class Element>
FASTPRUNE_INLINE void close(const RowGroup<Element>& rows, const GroupSums& group,
                            Closed (&closed)[kRegisters]) {
  constexpr int half = kWidth / 2;
  const F64 zero = {}, infinite = zero + kInf<double>;
  const F64 least = zero + static_cast<double>(std::numeric_limits<float>::min());
  const F64 magic = zero + 6755399441055744.0;  // 1.5 * 2^52: adding it rounds
  for (int j = 0; j < kRegisters; ++j) {
    F64 at_infinity[2], gap[2], n[2], r[2];
    for (int h = 0; h < 2; ++h) {
      const int i = j * kWidth + h * half;
      const F64 z = load(group.label_logit + i), exact = z - load(group.max + i);
      const F64 below = exact < 0.0 ? exact : -exact;
      const F64 clamped = below > -88.0 ? below : zero - 88.0;
      n[h] = (clamped * 1.4426950408889634 + magic) - magic;
      r[h] = clamped - n[h] * 0.6931471805599453;
      // What follows is in floats. A double beyond 3.4e38 becomes infinite there, so labels at infinity are found here.
      // The smallest gaps would become 0, a tie, so they are held below it.
      at_infinity[h] = z == infinite ? infinite : zero;
      gap[h] = (exact < 0.0) & (exact > -least) ? -least : exact;
    }
    Closed& c = closed[j];
    const F32 one = splat(1.0f), zero = splat(0.0f), label = narrowed(at_infinity[0], at_infinity[1]);
    const auto at = [j](const Floats& floats) { return load(floats + j * kWidth); };
    c.gap = narrowed(gap[0], gap[1]);
    const I32 scale = (I32)(narrowed(n[0], n[1]) + splat(12582912.0f)) << 23;
    const F32 power = (F32)((I32)exp_reduced(narrowed(r[0], r[1])) + scale);
    // There is no normal number below e^-87.
    const I32 representable = (c.gap >= splat(-87.0f)) & (c.gap <= splat(87.0f));
    const F32 smaller = where(representable, power, zero);
    const I32 confident = c.gap >= zero;
    c.w = where(confident, smaller, one);
    c.p = where(confident, one, smaller);
    c.s1 = at(group.s1);
    c.s2 = at(group.s2);
    c.spread = at(group.spread);
    c.others = c.w * c.s1;
    c.total = c.others + c.p;
    c.v = where(confident, c.others, (c.s1 - one) + c.p);
    c.rest = where(confident, c.others, at(group.rest) + c.p);
    // A label of +inf leaves the same gap as a label without other classes, but its row has no scores.
    const I32 bad = (c.gap != c.gap) | (c.s1 != c.s1) | (label == splat(kInf<float>));
    c.undefined = where(bad, splat(std::numeric_limits<float>::quiet_NaN()), zero);
    c.counted = rows.labels(j) >= 0;
  }
}

// Writes formula(closed, register) for the first n rows of a group.
template <class Formula>
FASTPRUNE_INLINE void write(float* out, int n, const Closed (&closed)[kRegisters], const Formula& formula) {
  alignas(64) Floats values;
  for (int j = 0; j < kRegisters; ++j) {
    const F32 score = formula(closed[j], j) + closed[j].undefined;
    store(values + j * kWidth, where(closed[j].counted, score, F32{}));
  }
  if (n == kPack) {
    __builtin_memcpy(out, values, sizeof values);
  } else {
    for (int i = 0; i < n; ++i) out[i] = values[i];
  }
}

// Begins a lambda that makes one register of results. c holds the closed sums, and j is the register's number.
#define FASTPRUNE_FORMULA [&](const Closed& c, [[maybe_unused]] int j) FASTPRUNE_INLINE_LAMBDA -> F32

// -log p_y.
FASTPRUNE_INLINE F32 loss_of(const Closed& c) {
  return max_lanes(-c.gap, F32{}) + log1p_nonnegative(c.v);
}

// Writes the wanted scores of the first n rows of a group. `row` is the group's first row.
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
          FASTPRUNE_FORMULA { return where(c.gap >= F32{}, splat(1.0f), F32{}); });
  if constexpr (kLevel >= kSpread) {
    if (scores.metric[kEntropy])
      write(at(kEntropy), n, closed, FASTPRUNE_FORMULA {
        // A factor of 0 may stand before an infinite gap: without other classes, or with a masked label.
        const F32 sure = where(c.w > F32{}, c.w * fma(c.s1, c.gap, c.spread), F32{});
        const F32 unsure = c.spread - where(c.p > F32{}, c.p * c.gap, F32{});
        return log1p_nonnegative(c.rest) + where(c.gap >= F32{}, sure, unsure) / c.total;
      });
  }
}
