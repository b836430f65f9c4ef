// The sums of one row; row_scores.cpp has the algebra. Included once for each instruction set.

constexpr std::int64_t kBlock = 1024;  // 4 KiB of floats: half of what a small first-level cache has

template <class T>
constexpr T kInf = std::numeric_limits<T>::infinity();

// Sums over the classes other than the label, relative to the largest of them.
struct Sums {
  double max = -kInf<double>;
  double s1 = 0.0;
  double s2 = 0.0;
  double rest = 0.0;    // as s1, but without one of the largest: S1 - 1, not cancelled
  double spread = 0.0;  // sum of e^(z - max) (max - z)
};

// Packs of kLanes values, one after the other.
template <class Compute>
struct Block {
  const Compute* values;
  std::int64_t size;  // in packs

  FASTPRUNE_INLINE const Compute* operator[](std::int64_t i) const { return values + i * kLanes; }
};

// The same, of which up to two lie elsewhere: the pack that holds the label, where -inf has its place, and an
// incomplete last one, padded with -inf. Exchanging pointers costs little; a copy of every row would.
struct PatchedBlock : Block<float> {
  std::int64_t label_pack, last_pack;  // -1: none
  const float* label_values;
  const float* last_values;

  FASTPRUNE_INLINE const float* operator[](std::int64_t i) const {
    const float* at = values + i * kLanes;
    at = i == label_pack ? label_values : at;
    return i == last_pack ? last_values : at;
  }
};

// The largest value; NaNs are passed over.
template <class Packs>
FASTPRUNE_INLINE float largest(const Packs& packs) {
  Vector best[2][kRegisters];
  for (int j = 0; j < kRegisters; ++j) best[0][j] = best[1][j] = splat(-kInf<float>);
  std::int64_t i = 0;
  for (; i + 2 <= packs.size; i += 2)
    for (int half = 0; half < 2; ++half)
      for (int j = 0; j < kRegisters; ++j)
        best[half][j] = max_lanes(load(packs[i + half] + j * kWidth), best[half][j]);
  if (i < packs.size)
    for (int j = 0; j < kRegisters; ++j)
      best[0][j] = max_lanes(load(packs[i] + j * kWidth), best[0][j]);
  for (int j = 0; j < kRegisters; ++j) best[0][j] = max_lanes(best[0][j], best[1][j]);
  return max_of_lanes(best[0]);
}
inline double largest(const Block<double>& packs) {
  double best[kLanes];
  for (int j = 0; j < kLanes; ++j) best[j] = -kInf<double>;
  for (std::int64_t i = 0; i < packs.size; ++i)
    for (int j = 0; j < kLanes; ++j) best[j] = packs[i][j] > best[j] ? packs[i][j] : best[j];
  double top = best[0];
  for (int j = 1; j < kLanes; ++j) top = best[j] > top ? best[j] : top;
  return top;
}

template <Level kLevel>
struct LaneSums {
  Vector s1[kRegisters] = {}, s2[kRegisters] = {};
  Vector rest[kRegisters] = {}, spread[kRegisters] = {}, tops[kRegisters] = {};

  template <class Compute>
  FASTPRUNE_INLINE void add(const Compute* values, Compute reference) {
    for (int j = 0; j < kRegisters; ++j) add(j, load_difference(values + j * kWidth, reference));
  }
  // x: logits less the largest.
  FASTPRUNE_INLINE void add(int j, Vector x) {
    Vector e = exp_nonpositive(x);
    s1[j] += e;
    if constexpr (kLevel >= kSquares) s2[j] = fma(e, e, s2[j]);
    if constexpr (kLevel >= kSpread) {
      // The entropy of a sure and wrong row is made of nothing but small terms, and none of masked ones.
      e = exp_nonpositive(x, kSmallestNormal);
      const IntVector is_top = x == Vector{};
      e = is_top | (x < splat(kSmallestNormal)) ? Vector{} : e;
      tops[j] += is_top ? splat(1.0f) : Vector{};
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

// Adds packs of values, of which `top` is the largest. `ahead` is where the next values will be read,
// `ahead_step` bytes a pack.
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
        const double rise = top - sums.max;  // so far that scale is 0, it may be infinite
        sums.spread = scale > 0.0 ? scale * (sums.spread + sums.rest * rise) : 0.0;
        sums.rest *= scale;
      }
      sums.s1 *= scale;
      sums.s2 *= scale * scale;
    }
    sums.max = top;
    newly_left_out = 1.0;
  }
  // A block of only -inf (and NaN) at the start of a row has no reference yet. What 0 makes of it is
  // dropped below, but for a NaN.
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
  sums.s1 += sum_lanes(even.s1);
  if constexpr (kLevel >= kSquares) sums.s2 += sum_lanes(even.s2);
  if constexpr (kLevel >= kSpread) {
    sums.rest += sum_lanes(even.rest) + (sum_lanes(even.tops) - newly_left_out);
    sums.spread -= sum_lanes(even.spread);
  }
  if (nothing_yet && sums.s1 == sums.s1) sums = Sums{};
}

// A block of floats in place, its label and its incomplete end patched.
FASTPRUNE_INLINE PatchedBlock patched(const float* block, std::int64_t size, std::int64_t label, float* buffer) {
  const std::int64_t full = size / kLanes;
  const int rest = static_cast<int>(size % kLanes);
  PatchedBlock packs{{block, full + (rest > 0)}, -1, -1, buffer, buffer + kLanes};
  if (rest > 0) {
    copy_padded(buffer + kLanes, block + full * kLanes, rest);
    packs.last_pack = full;
  }
  if (label >= 0 && label < size) {
    if (label / kLanes == full) {
      buffer[kLanes + label % kLanes] = -kInf<float>;
    } else {
      __builtin_memcpy(buffer, block + label / kLanes * kLanes, kLanes * sizeof(float));
      buffer[label % kLanes] = -kInf<float>;
      packs.label_pack = label / kLanes;
    }
  }
  return packs;
}

// A block of another type, converted into `buffer`; `top` is its largest value.
template <class Element, class Compute>
FASTPRUNE_INLINE Block<Compute> converted(const Element* block, std::int64_t size, std::int64_t label,
                                          Compute* buffer, double& top) {
  const std::int64_t full = size / kLanes * kLanes, packs = (size + kLanes - 1) / kLanes;
  for (std::int64_t i = full; i < packs * kLanes; ++i)
    buffer[i] = i < size ? to_compute(block[i]) : -kInf<Compute>;
  const Block<Compute> result{buffer, packs};
  if constexpr (std::is_same_v<Compute, float>) {
    Vector best[2] = {splat(-kInf<float>), splat(-kInf<float>)};
    for (std::int64_t i = 0; i < full; i += kLanes) {
      for (int j = 0; j < kRegisters; ++j) {
        const Vector v = load(block + i + j * kWidth);
        store(buffer + i + j * kWidth, v);
        best[j % 2] = max_lanes(v, best[j % 2]);
      }
    }
    for (std::int64_t i = full; i < packs * kLanes; i += kWidth) best[0] = max_lanes(load(buffer + i), best[0]);
    top = max_of_vector(max_lanes(best[0], best[1]));
  } else {
    for (std::int64_t i = 0; i < full; ++i) buffer[i] = block[i];
    top = largest(result);
  }
  if (label >= 0 && label < size) {
    // It may have been the largest; one block of a row has the work twice.
    buffer[label] = -kInf<Compute>;
    top = largest(result);
  }
  return result;
}

template <class Element>
using ComputeOf = decltype(to_compute(Element{}));

// A row of any length, block by block.
template <Level kLevel, class Element>
Sums sum_others(const Element* row, std::int64_t classes, std::int64_t label) {
  alignas(64) ComputeOf<Element> buffer[kBlock];
  Sums sums;
  for (std::int64_t start = 0; start < classes; start += kBlock) {
    const std::int64_t size = classes - start < kBlock ? classes - start : kBlock;
    const char* ahead = reinterpret_cast<const char*>(row + start + kBlock);
    constexpr std::ptrdiff_t step = kLanes * sizeof(Element);
    if constexpr (!std::is_same_v<Element, float>) {
      double top;
      const auto block = converted(row + start, size, label - start, buffer, top);
      add<kLevel>(sums, block, top, ahead, step);
    } else if (size == kBlock && (label < start || label >= start + kBlock)) {
      const Block<float> block{row + start, kBlock / kLanes};
      add<kLevel>(sums, block, largest(block), ahead, step);
    } else {
      const PatchedBlock block = patched(row + start, size, label - start, buffer);
      add<kLevel>(sums, block, largest(block), ahead, step);
    }
  }
  return sums;
}

// kLanes rows.
template <class Element>
struct RowGroup {
  const Element* logits[kLanes];
  alignas(64) std::int64_t label[kLanes];  // -1: not counted
  std::ptrdiff_t ahead;                    // bytes from a row to that of the next group, as a rule

  FASTPRUNE_INLINE bool counted(int i) const { return label[i] >= 0; }
  FASTPRUNE_INLINE double label_logit(int i) const { return counted(i) ? to_compute(logits[i][label[i]]) : 0.0; }
  // Those of register j. There are fewer than 2^31 classes (fastprune/scores/checks.py).
  FASTPRUNE_INLINE IntVector labels(int j) const {
    return narrowed(load(label + j * kWidth), load(label + j * kWidth + kWidth / 2));
  }
};

// Rows of one block, a few at a time: finding a maximum and adding up sixteen lanes are long chains of
// dependent operations, and the processor fills one row's with another's.
constexpr int kTogether = 4;
constexpr std::int64_t kShortRow = 512;

template <Level kLevel, class Element>
FASTPRUNE_INLINE void sum_short_rows(const RowGroup<Element>& rows, int first, std::int64_t classes,
                                     Sums (&out)[kTogether]) {
  using Compute = ComputeOf<Element>;
  alignas(64) Compute buffer[kTogether][kShortRow];
  std::conditional_t<std::is_same_v<Element, float>, PatchedBlock, Block<Compute>> block[kTogether];
  double top[kTogether];
  for (int i = 0; i < kTogether; ++i) {
    if (!rows.counted(first + i)) continue;
    const Element* row = rows.logits[first + i];
    const std::int64_t label = rows.label[first + i];
    if constexpr (std::is_same_v<Element, float>) {
      block[i] = patched(row, classes, label, buffer[i]);
      top[i] = largest(block[i]);
    } else {
      block[i] = converted(row, classes, label, buffer[i], top[i]);
    }
  }
  for (int i = 0; i < kTogether; ++i) {
    out[i] = Sums{};
    if (rows.counted(first + i))
      add<kLevel>(out[i], block[i], top[i], reinterpret_cast<const char*>(rows.logits[first + i] + kBlock),
                  kLanes * sizeof(Element));
  }
}

typedef double Doubles[kLanes];
typedef float Floats[kLanes];

// The sums of kLanes rows.
struct GroupSums {
  alignas(64) Doubles label_logit, max;
  alignas(64) Floats s1, s2, rest, spread;

  FASTPRUNE_INLINE void put(int i, double label, const Sums& sums) {
    label_logit[i] = label;
    max[i] = sums.max;
    s1[i] = static_cast<float>(sums.s1);
    s2[i] = static_cast<float>(sums.s2);
    rest[i] = static_cast<float>(sums.rest);
    spread[i] = static_cast<float>(sums.spread);
  }
};
