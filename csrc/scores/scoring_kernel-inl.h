// Scores ranges of rows, sixteen at a time. Included once for each instruction set.

// Steps through rows in order; a division a row would take as long as a short row.
template <class Element>
class RowCursor {
 public:
  RowCursor(const Rows& rows, std::int64_t row) : rows_(rows), b_(row / rows.tokens), t_(row % rows.tokens) {}

  // The next n rows, 1 <= n <= kLanes; the lanes after them are the last row once more, not counted.
  // Labels out of range are reported, and their rows not counted.
  FASTPRUNE_INLINE void next(int n, RowGroup<Element>& out, FirstBad& bad) {
    out.ahead = kLanes * rows_.logits_token_stride * static_cast<std::ptrdiff_t>(sizeof(Element));
    for (int done = 0; done < n;) {
      const std::int64_t left = rows_.tokens - t_;
      const int here = left < n - done ? static_cast<int>(left) : n - done;
      take(here, done, out, bad);
      done += here;
      t_ += here;
      if (t_ == rows_.tokens) {
        t_ = 0;
        ++b_;
      }
    }
    for (int i = n; i < kLanes; ++i) {
      out.logits[i] = out.logits[n - 1];
      out.label[i] = -1;
    }
  }

 private:
  FASTPRUNE_INLINE void take(int n, int at, RowGroup<Element>& out, FirstBad& bad) const {
    const Element* logits = static_cast<const Element*>(rows_.logits) + b_ * rows_.logits_batch_stride +
                            t_ * rows_.logits_token_stride;
    const std::int64_t step = rows_.logits_token_stride;
    for (int i = 0; i < n; ++i) out.logits[at + i] = logits + i * step;

    const std::int64_t first = t_ + rows_.shift, left = rows_.tokens - first;
    const int labelled = left < 0 ? 0 : left < n ? static_cast<int>(left) : n;
    const std::int64_t* labels = rows_.labels + b_ * rows_.labels_batch_stride + first * rows_.labels_token_stride;
    bool wrong = false;
    if (labelled == kLanes && rows_.labels_token_stride == 1) {
      wrong = check(labels, out.label);
    } else {
      for (int i = 0; i < labelled; ++i) {
        const std::int64_t label = labels[i * rows_.labels_token_stride];
        const bool ignored = label == rows_.ignore_index;
        const bool inside = static_cast<std::uint64_t>(label) < static_cast<std::uint64_t>(rows_.classes);
        wrong |= !inside & !ignored;
        out.label[at + i] = inside & !ignored ? label : -1;
      }
      for (int i = labelled; i < n; ++i) out.label[at + i] = -1;
    }
    if (__builtin_expect(wrong, false)) {
      for (int i = 0; i < labelled; ++i) {
        const std::int64_t label = labels[i * rows_.labels_token_stride];
        if (label != rows_.ignore_index && (label < 0 || label >= rows_.classes))
          return bad.report(b_ * rows_.tokens + first + i);
      }
    }
  }

  // The same for kLanes labels side by side. In vectors: labels stored one by one would be late when they are read as
  // one.
  FASTPRUNE_INLINE bool check(const std::int64_t* labels, std::int64_t* out) const {
    constexpr int lanes = kWidth / 2;
    const LongVector zero = {}, ignored = zero + rows_.ignore_index, classes = zero + rows_.classes;
    LongVector wrong = {};
    for (int i = 0; i < kLanes; i += lanes) {
      const LongVector label = load(labels + i), inside = (label >= zero) & (label < classes);
      const LongVector is_ignored = label == ignored;
      wrong |= ~(inside | is_ignored);
      const LongVector kept = inside & ~is_ignored ? label : ~zero;
      __builtin_memcpy(out + i, &kept, sizeof kept);
    }
    std::int64_t any = 0;
    for (int i = 0; i < lanes; ++i) any |= wrong[i];
    return any != 0;
  }

  const Rows& rows_;
  std::int64_t b_, t_;
};

template <Level kLevel, class Element>
FASTPRUNE_INLINE void sum_group(const RowGroup<Element>& rows, std::int64_t classes, GroupSums& group) {
  if (classes <= kFewClasses) {
    sum_columns<kLevel>(rows, classes, group);
  } else if (classes <= kShortRow) {
    for (int i = 0; i < kLanes; i += kTogether) {
      Sums sums[kTogether];
      sum_short_rows<kLevel>(rows, i, classes, sums);
      for (int j = 0; j < kTogether; ++j) group.put(i + j, rows.label_logit(i + j), sums[j]);
    }
  } else {
    for (int i = 0; i < kLanes; ++i)
      group.put(i, rows.label_logit(i),
                rows.counted(i) ? sum_others<kLevel>(rows.logits[i], classes, rows.label[i]) : Sums{});
  }
}

// sum_i w_i (M - z_i): with weights >= 0 all terms are. A second look at the row, which up to some
// thousand classes is still in the cache.
template <class Element>
double weighted_depth(const Element* row, float largest, std::int64_t classes, const float* weight) {
  double total = 0.0;
  for (std::int64_t start = 0; start < classes; start += kBlock) {
    const std::int64_t end = start + kBlock < classes ? start + kBlock : classes;
    Vector sums[kRegisters] = {};
    std::int64_t i = start;
    for (; i + kLanes <= end; i += kLanes)
      for (int j = 0; j < kRegisters; ++j) {
        const Vector depth = splat(largest) - load(row + i + j * kWidth);
        sums[j] = weight ? fma(load(weight + i + j * kWidth), depth, sums[j]) : sums[j] + depth;
      }
    total += sum_lanes(sums);
    for (; i < end; ++i) total += (weight ? weight[i] : 1.0f) * (largest - to_compute(row[i]));
  }
  return total;
}

template <class Element>
void write_loss(const Job& job, std::int64_t row, int n, const RowGroup<Element>& rows,
                const GroupSums& group, const Closed (&closed)[kRegisters]) {
  const LossRows& loss = *job.loss;
  // (1 - s) w_y hard + (s / C) (W log Z + sum_i w_i (M - z_i)), as -log p_i = log Z + (M - z_i).
  const double each = loss.smoothing / static_cast<double>(job.rows.classes);
  const auto by_log_z = static_cast<float>(each * job.weight_sum);
  alignas(64) Floats by_hard, depth, largest;
  for (int i = 0; i < kLanes; ++i) {
    const double label_weight = rows.counted(i) && loss.weight ? loss.weight[rows.label[i]] : 1.0;
    by_hard[i] = static_cast<float>((1.0 - loss.smoothing) * label_weight);
    const double max = group.max[i], label = group.label_logit[i];
    largest[i] = static_cast<float>(label > max ? label : max);
    depth[i] = 0.0f;
    if (rows.counted(i) && loss.smoothing > 0.0f)
      depth[i] = static_cast<float>(each * weighted_depth(rows.logits[i], largest[i], job.rows.classes,
                                                          loss.weight));
  }
  write(loss.losses + row, n, closed, FASTPRUNE_FORMULA {
    const Vector hard = loss_of(c), share = load(by_hard + j * kWidth);
    // With all of it smoothed away the loss of a masked label, infinite, has a share of 0.
    const Vector own = select((share == Vector{}) & (loss.smoothing == 1.0f ? -1 : 0), Vector{}, hard * share);
    return own + fma(splat(by_log_z), log1p_nonnegative(c.v), load(depth + j * kWidth));
  });
  write(loss.largest + row, n, closed, FASTPRUNE_FORMULA { (void)c; return load(largest + j * kWidth); });
  write(loss.scale + row, n, closed, FASTPRUNE_FORMULA { return splat(1.0f) / c.total; });
  write(loss.doubt + row, n, closed, FASTPRUNE_FORMULA { return c.others / c.total; });
}

template <Level kLevel, class Element>
void score_rows(const Job& job, std::int64_t begin, std::int64_t end) {
  RowCursor<Element> cursor(job.rows, begin);
  for (std::int64_t row = begin; row < end; row += kLanes) {
    const int n = end - row < kLanes ? static_cast<int>(end - row) : kLanes;
    RowGroup<Element> rows;
    cursor.next(n, rows, *job.bad);
    GroupSums sums;
    sum_group<kLevel>(rows, job.rows.classes, sums);
    Closed closed[kRegisters];
    close(rows, sums, closed);
    write_scores<kLevel>(job.scores, row, n, closed);
    if constexpr (!std::is_same_v<Element, double>)
      if (job.loss) write_loss(job, row, n, rows, sums, closed);
  }
}

template <class Element>
FASTPRUNE_INLINE RangeKernel scorer_of(Level level) {
  switch (level) {
    case kSum: return score_rows<kSum, Element>;
    case kSquares: return score_rows<kSquares, Element>;
    case kSpread: break;
  }
  return score_rows<kSpread, Element>;
}

inline RangeKernel scorer(DType dtype, Level level) {
  switch (dtype) {
    case DType::kFloat16: return scorer_of<Half>(level);
    case DType::kBFloat16: return scorer_of<BFloat16>(level);
    case DType::kFloat32: return scorer_of<float>(level);
    case DType::kFloat64: return scorer_of<double>(level);
    default: break;
  }
  return nullptr;  // the binding refuses these
}
