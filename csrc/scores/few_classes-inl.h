// The sums of rows of few classes. A group goes side by side, one row in each lane.
//
// Included once for each instruction set, by scores/row_kernels-inl.h.
//
// Why: with one row in a register most lanes would be empty, and every row would pay for adding up its lanes. Instead
// tiles of rows and classes are turned in registers, at a quarter of an operation for each logit.
//
// Memory: a group of kFewClasses columns on the stack, 12 KiB of floats or 24 KiB of doubles.

constexpr std::int64_t kFewClasses = 192;

// Turns a group: the logit of class c of a row goes to columns[c * kPack + row]. -inf takes the label's place. Also
// writes the label's logit and the largest of the others for each row.
template <class Element>
FASTPRUNE_INLINE void turn(const RowGroup<Element>& rows, std::int64_t classes, float* columns, float* max,
                           float* label_logit) {
  for (int j = 0; j < kRegisters; ++j) {
    const I32 labels = rows.labels(j);
    F32 top = splat(-kInf<float>), at_label = {};
    for (std::int64_t c = 0; c < classes; c += kWidth) {
      const int here = classes - c < kWidth ? static_cast<int>(classes - c) : kWidth;
      // A processor cannot fetch sixteen streams ahead by itself, so the code fetches the rows of the next group. Short
      // rows do not need that.
      if (classes >= kWidth)
        for (int i = 0; i < kWidth; ++i)
          __builtin_prefetch(reinterpret_cast<const char*>(rows.logits[j * kWidth + i] + c) + rows.ahead);
      F32 tile[kWidth];
      load_tile(rows.logits + j * kWidth, c, here, tile);
      float* to = columns + c * kPack + j * kWidth;
      for (int i = 0; i < kWidth; ++i) {
        if (i >= here) break;
        const I32 is_label = labels == static_cast<std::int32_t>(c) + i;
        const F32 v = is_label ? splat(-kInf<float>) : tile[i];
        at_label = is_label ? tile[i] : at_label;
        top = max_lanes(v, top);
        store(to + i * kPack, v);
      }
    }
    store(max + j * kWidth, top);
    store(label_logit + j * kWidth, at_label);
  }
}
inline void turn(const RowGroup<double>& rows, std::int64_t classes, double* columns, double* max,
                 double* label_logit) {
  for (int i = 0; i < kPack; ++i) {
    max[i] = -kInf<double>;
    label_logit[i] = rows.label_logit(i);
    for (std::int64_t c = 0; c < classes; ++c) {
      const double value = rows.label[i] == c ? -kInf<double> : rows.logits[i][c];
      columns[c * kPack + i] = value;
      max[i] = value > max[i] ? value : max[i];
    }
  }
}

// What the logits of each row are compared with: the largest of the others. A row whose other classes are all masked
// has none. It gets 0, and `alone` is 1 there.
FASTPRUNE_INLINE void reference_of(const float* max, float* reference, float* alone) {
  for (int j = 0; j < kRegisters; ++j) {
    const F32 top = load(max + j * kWidth);
    const I32 none = top == splat(-kInf<float>);
    store(reference + j * kWidth, none ? F32{} : top);
    store(alone + j * kWidth, none ? splat(1.0f) : F32{});
  }
}
inline void reference_of(const double* max, double* reference, float* alone) {
  for (int i = 0; i < kPack; ++i) {
    const bool none = max[i] == -kInf<double>;
    reference[i] = none ? 0.0 : max[i];
    alone[i] = none ? 1.0f : 0.0f;
  }
}

// A register of a column less the references of its rows.
FASTPRUNE_INLINE F32 column_difference(const float* column, const float* reference) {
  return load(column) - load(reference);
}
FASTPRUNE_INLINE F32 column_difference(const double* column, const double* reference) {
  float x[kWidth];
  for (int i = 0; i < kWidth; ++i) x[i] = static_cast<float>(column[i] - reference[i]);
  return load(x);
}

// The sums of a group. Requires classes <= kFewClasses.
template <Level kLevel, class Element>
FASTPRUNE_INLINE void sum_columns(const RowGroup<Element>& rows, std::int64_t classes, GroupSums& out) {
  using Compute = ComputeOf<Element>;
  alignas(64) Compute columns[kFewClasses * kPack];
  alignas(64) Compute max[kPack], label_logit[kPack], reference[kPack];
  turn(rows, classes, columns, max, label_logit);
  alignas(64) Floats alone;
  reference_of(max, reference, alone);

  // In runs of 32 classes. A longer sum would lose digits.
  LaneSums<kLevel> sums;
  for (std::int64_t start = 0; start < classes; start += 32) {
    const std::int64_t end = start + 32 < classes ? start + 32 : classes;
    LaneSums<kLevel> run;
    for (std::int64_t c = start; c < end; ++c)
      for (int j = 0; j < kRegisters; ++j)
        run.add(j, column_difference(columns + c * kPack + j * kWidth, reference + j * kWidth));
    sums.add(run);
  }
  for (int j = 0; j < kRegisters; ++j) {
    // If all other classes are masked, the sums are 0, unless there is a NaN.
    const F32 s1 = sums.s1[j];
    const I32 empty = (load(alone + j * kWidth) != F32{}) & (s1 == s1);
    const auto put = [&](float* to, F32 v) { store(to + j * kWidth, empty ? F32{} : v); };
    put(out.s1, s1);
    if constexpr (kLevel >= kSquares) put(out.s2, sums.s2[j]);
    if constexpr (kLevel >= kSpread) {
      put(out.rest, sums.rest[j] + (sums.tops[j] - splat(1.0f)));
      put(out.spread, -sums.spread[j]);
    }
  }
  for (int i = 0; i < kPack; ++i) {
    out.max[i] = max[i];
    out.label_logit[i] = label_logit[i];
  }
}
