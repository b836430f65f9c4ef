// The sums of one row over the classes other than its label.
//
// Included once for each instruction set, by scores/row_kernels-inl.h and scores/tile_kernels-inl.h. row_scores.cpp has the algebra.
//
// Cost: one read of the row, and one exponential for each class. With kSpread, two.
// Memory: a block of at most 8 KiB on the stack.

// Sums over the classes other than the label. z is a logit and max the largest of them.
struct Sums {
  double max = -kInf<double>;
  double s1 = 0.0;      // of e^(z - max)
  double s2 = 0.0;      // of its square
  double rest = 0.0;    // as s1, but without one of the largest: S1 - 1 without cancellation
  double spread = 0.0;  // of e^(z - max) (max - z)
};

// The same sums in floats, one for each lane of a pack, and how often the largest logit occurs (`tops`). `spread` has
// the opposite sign here.
template <Level kLevel>
struct LaneSums {
  F32 s1[kRegisters] = {}, s2[kRegisters] = {};
  F32 rest[kRegisters] = {}, spread[kRegisters] = {}, tops[kRegisters] = {};

  template <class Compute>
  FASTPRUNE_INLINE void add(const Compute* values, Compute reference) {
    for (int j = 0; j < kRegisters; ++j) add(j, load_difference(values + j * kWidth, reference));
  }
  // x are logits less the largest.
  FASTPRUNE_INLINE void add(int j, F32 x) {
    F32 e = exp_nonpositive(x);
    s1[j] += e;
    if constexpr (kLevel >= kSquares) s2[j] = fma(e, e, s2[j]);
    if constexpr (kLevel >= kSpread) {
      // The entropy of a row that is sure and wrong consists of small terms alone. So they count down to e^-87, and
      // masked classes count as nothing.
      e = exp_nonpositive(x, kSmallestNormal);
      const I32 is_top = x == F32{};
      e = is_top | (x < splat(kSmallestNormal)) ? F32{} : e;
      tops[j] += is_top ? splat(1.0f) : F32{};
      rest[j] += e;
      spread[j] = fma(e, max_lanes(splat(kSmallestNormal), x), spread[j]);  // x may be -inf
    }
  }
  FASTPRUNE_INLINE void add(const LaneSums& other) {
    for (int j = 0; j < kRegisters; ++j) {
      s1[j] += other.s1[j];
      if constexpr (kLevel >= kSquares) s2[j] += other.s2[j];
      if constexpr (kLevel >= kSpread) {
        rest[j] += other.rest[j];
        spread[j] += other.spread[j];
        tops[j] += other.tops[j];
      }
    }
  }
};

// Adds packs of values, of which `top` is the largest. The values that come next are at `ahead`, with `ahead_step`
// bytes for each pack. They are fetched meanwhile.
template <Level kLevel, class Packs>
FASTPRUNE_INLINE void add(Sums& sums, const Packs& packs, double top, const char* ahead,
                          std::ptrdiff_t ahead_step) {
  using Compute = std::remove_cv_t<std::remove_reference_t<decltype(packs[0][0])>>;
  double newly_left_out = 0.0;
  if (top > sums.max) {
    if (sums.max != -kInf<double>) {
      const double scale = std::exp(sums.max - top);
      if constexpr (kLevel >= kSpread) {
        sums.rest += 1.0;  // the one that was the largest
        const double rise = top - sums.max;  // may be infinite, and then scale is 0
        sums.spread = scale > 0.0 ? scale * (sums.spread + sums.rest * rise) : 0.0;
        sums.rest *= scale;
      }
      sums.s1 *= scale;
      sums.s2 *= scale * scale;
    }
    sums.max = top;
    newly_left_out = 1.0;
  }
  // A block of only -inf and NaN at the start of a row has no largest logit yet. Its sums relative to 0 are dropped
  // below, except for a NaN.
  const bool nothing_yet = sums.max == -kInf<double>;
  const Compute reference = nothing_yet ? Compute(0) : static_cast<Compute>(sums.max);

  LaneSums<kLevel> even, odd;
  std::int64_t i = 0;
  for (; i + 2 <= packs.size; i += 2) {
    __builtin_prefetch(ahead + i * ahead_step);
    __builtin_prefetch(ahead + (i + 1) * ahead_step);
    even.add(packs[i], reference);
    odd.add(packs[i + 1], reference);
  }
  if (i < packs.size) even.add(packs[i], reference);
  even.add(odd);
  sums.s1 += sum_of_pack(even.s1);
  if constexpr (kLevel >= kSquares) sums.s2 += sum_of_pack(even.s2);
  if constexpr (kLevel >= kSpread) {
    sums.rest += sum_of_pack(even.rest) + (sum_of_pack(even.tops) - newly_left_out);
    sums.spread -= sum_of_pack(even.spread);
  }
  if (nothing_yet && sums.s1 == sums.s1) sums = Sums{};
}

// The sums of a row of any length, block by block. `sums` are those of classes before it. A label outside of
// [0, classes) is none of these classes.
template <Level kLevel, class Element>
Sums sum_others(const Element* row, std::int64_t classes, std::int64_t label, Sums sums = {}) {
  alignas(64) ComputeOf<Element> buffer[kBlock];
  for (std::int64_t start = 0; start < classes; start += kBlock) {
    const std::int64_t size = classes - start < kBlock ? classes - start : kBlock;
    const char* ahead = reinterpret_cast<const char*>(row + start + kBlock);
    constexpr std::ptrdiff_t step = kPack * sizeof(Element);
    if constexpr (!std::is_same_v<Element, float>) {
      double top;
      const auto block = converted(row + start, size, label - start, buffer, top);
      add<kLevel>(sums, block, top, ahead, step);
    } else if (size == kBlock && (label < start || label >= start + kBlock)) {
      const Block<float> block{row + start, kBlock / kPack};
      add<kLevel>(sums, block, largest(block), ahead, step);
    } else {
      const PatchedBlock block = patched(row + start, size, label - start, buffer);
      add<kLevel>(sums, block, largest(block), ahead, step);
    }
  }
  return sums;
}
