// The sums of rows of few classes, sixteen rows side by side, a row a lane. Included once for each
// instruction set.
//
// Sixteen classes side by side would leave most lanes empty here, and each row would pay for adding up its
// lanes. Instead tiles of rows and classes are transposed in registers, a quarter of an operation a logit.

constexpr std::int64_t kFewClasses = 192;

// Column c + i of kWidth rows in tile[i], for i < here.
template <class Element>
FASTPRUNE_INLINE void load_tile(const Element* const* rows, std::int64_t c, int here, Vector (&tile)[kWidth]) {
#if FASTPRUNE_WIDTH == 16
  if (here <= 8) {
    load_columns(rows, c, here < 4 ? here : 4, tile);
    if (here > 4) load_columns(rows, c + 4, here - 4, tile + 4);
    return;
  }
#endif
  for (int i = 0; i < kWidth; ++i) tile[i] = here == kWidth ? load(rows[i] + c) : load_first(rows[i] + c, here);
  transpose(tile);
}

// Value (c, row) at columns[c * kLanes + row], the label's -inf; the largest and the label's of each row.
template <class Element>
FASTPRUNE_INLINE void turn(const RowGroup<Element>& rows, std::int64_t classes, float* columns, float* max,
                           float* label_logit) {
  for (int j = 0; j < kRegisters; ++j) {
    const IntVector labels = rows.labels(j);
    Vector top = splat(-kInf<float>), at_label = {};
    for (std::int64_t c = 0; c < classes; c += kWidth) {
      const int here = classes - c < kWidth ? static_cast<int>(classes - c) : kWidth;
      // Sixteen rows side by side are more streams than a processor foresees by itself, unless they are short.
      if (classes >= kWidth)
        for (int i = 0; i < kWidth; ++i)
          __builtin_prefetch(reinterpret_cast<const char*>(rows.logits[j * kWidth + i] + c) + rows.ahead);
      Vector tile[kWidth];
      load_tile(rows.logits + j * kWidth, c, here, tile);
      float* to = columns + c * kLanes + j * kWidth;
      for (int i = 0; i < kWidth; ++i) {
        if (i >= here) break;
        const IntVector is_label = labels == static_cast<std::int32_t>(c) + i;
        const Vector v = is_label ? splat(-kInf<float>) : tile[i];
        at_label = is_label ? tile[i] : at_label;
        top = max_lanes(v, top);
        store(to + i * kLanes, v);
      }
    }
    store(max + j * kWidth, top);
    store(label_logit + j * kWidth, at_label);
  }
}
inline void turn(const RowGroup<double>& rows, std::int64_t classes, double* columns, double* max,
                 double* label_logit) {
  for (int i = 0; i < kLanes; ++i) {
    max[i] = -kInf<double>;
    label_logit[i] = rows.label_logit(i);
    for (std::int64_t c = 0; c < classes; ++c) {
      const double value = rows.label[i] == c ? -kInf<double> : rows.logits[i][c];
      columns[c * kLanes + i] = value;
      max[i] = value > max[i] ? value : max[i];
    }
  }
}

// What differences are taken from, and where there is none: rows whose other classes are all masked.
FASTPRUNE_INLINE void reference_of(const float* max, float* reference, float* alone) {
  for (int j = 0; j < kRegisters; ++j) {
    const Vector top = load(max + j * kWidth);
    const IntVector none = top == splat(-kInf<float>);
    store(reference + j * kWidth, none ? Vector{} : top);
    store(alone + j * kWidth, none ? splat(1.0f) : Vector{});
  }
}
inline void reference_of(const double* max, double* reference, float* alone) {
  for (int i = 0; i < kLanes; ++i) {
    const bool none = max[i] == -kInf<double>;
    reference[i] = none ? 0.0 : max[i];
    alone[i] = none ? 1.0f : 0.0f;
  }
}

FASTPRUNE_INLINE Vector column_difference(const float* column, const float* reference) {
  return load(column) - load(reference);
}
FASTPRUNE_INLINE Vector column_difference(const double* column, const double* reference) {
  float x[kWidth];
  for (int i = 0; i < kWidth; ++i) x[i] = static_cast<float>(column[i] - reference[i]);
  return load(x);
}

template <Level kLevel, class Element>
FASTPRUNE_INLINE void sum_columns(const RowGroup<Element>& rows, std::int64_t classes, GroupSums& out) {
  using Compute = ComputeOf<Element>;
  alignas(64) Compute columns[kFewClasses * kLanes];
  alignas(64) Compute max[kLanes], label_logit[kLanes], reference[kLanes];
  turn(rows, classes, columns, max, label_logit);
  alignas(64) Floats alone;
  reference_of(max, reference, alone);

  // In runs of 32, as a longer sum would lose digits.
  LaneSums<kLevel> sums;
  for (std::int64_t start = 0; start < classes; start += 32) {
    const std::int64_t end = start + 32 < classes ? start + 32 : classes;
    LaneSums<kLevel> run;
    for (std::int64_t c = start; c < end; ++c)
      for (int j = 0; j < kRegisters; ++j)
        run.add(j, column_difference(columns + c * kLanes + j * kWidth, reference + j * kWidth));
    sums.add(run);
  }
  for (int j = 0; j < kRegisters; ++j) {
    // Where every other class is masked the sums are empty, but for a NaN.
    const Vector s1 = sums.s1[j];
    const IntVector empty = (load(alone + j * kWidth) != Vector{}) & (s1 == s1);
    const auto put = [&](float* to, Vector v) { store(to + j * kWidth, empty ? Vector{} : v); };
    put(out.s1, s1);
    if constexpr (kLevel >= kSquares) put(out.s2, sums.s2[j]);
    if constexpr (kLevel >= kSpread) {
      put(out.rest, sums.rest[j] + (sums.tops[j] - splat(1.0f)));
      put(out.spread, -sums.spread[j]);
    }
  }
  for (int i = 0; i < kLanes; ++i) {
    out.max[i] = max[i];
    out.label_logit[i] = label_logit[i];
  }
}
