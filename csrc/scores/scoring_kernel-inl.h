// The kernel that scores a range of rows, a group at a time.
//
// Included once for each instruction set, by scores/row_kernels-inl.h.
//
// Three ways to the same sums: rows of up to kFewClasses one lane each, rows of up to kShortRow a few at a time, and
// longer rows one by one. The number of classes alone decides, so a row's bits do not depend on the batch.

// The sums of a group.
template <Level kLevel, class Element>
FASTPRUNE_INLINE void sum_group(const RowGroup<Element>& rows, std::int64_t classes, GroupSums& group) {
  if (classes <= kFewClasses) {
    sum_columns<kLevel>(rows, classes, group);
  } else if (classes <= kShortRow) {
    for (int i = 0; i < kPack; i += kTogether) {
      Sums sums[kTogether];
      sum_short_rows<kLevel>(rows, i, classes, sums);
      for (int j = 0; j < kTogether; ++j) group.put(i + j, rows.label_logit(i + j), sums[j]);
    }
  } else {
    for (int i = 0; i < kPack; ++i)
      group.put(i, rows.label_logit(i),
                rows.counted(i) ? sum_others<kLevel>(rows.logits[i], classes, rows.label[i]) : Sums{});
  }
}

// Rows [begin, end).
template <Level kLevel, class Element>
void score_rows(const ScoringJob& job, std::int64_t begin, std::int64_t end) {
  RowCursor<Element> cursor(job.rows, begin);
  for (std::int64_t row = begin; row < end; row += kPack) {
    const int n = end - row < kPack ? static_cast<int>(end - row) : kPack;
    RowGroup<Element> rows;
    cursor.next(n, rows, *job.bad);
    GroupSums sums;
    sum_group<kLevel>(rows, job.rows.classes, sums);
    Closed closed[kRegisters];
    close(rows, sums, closed);
    write_scores<kLevel>(job.scores, row, n, closed);
    if constexpr (!std::is_same_v<Element, double>)
      if (job.loss) write_losses(job, row, n, rows, sums, closed);
  }
}

template <class Element>
FASTPRUNE_INLINE ScoringKernel scorer_of(Level level) {
  switch (level) {
    case kSum: return score_rows<kSum, Element>;
    case kSquares: return score_rows<kSquares, Element>;
    case kSpread: break;
  }
  return score_rows<kSpread, Element>;
}

// The kernel for logits of that type. The binding refuses other types than these four.
inline ScoringKernel scorer(DType dtype, Level level) {
  switch (dtype) {
    case DType::kFloat16: return scorer_of<Half>(level);
    case DType::kBFloat16: return scorer_of<BFloat16>(level);
    case DType::kFloat32: return scorer_of<float>(level);
    case DType::kFloat64: return scorer_of<double>(level);
    default: break;
  }
  return nullptr;
}
