// The losses of a group, and what the gradient needs of them.
//
// Included once for each instruction set, by scores/row_kernels-inl.h and scores/tile_kernels-inl.h.
//
// Cost: the closed forms of a group. With label smoothing each row is read once more. A row of up to some thousand
// classes is still in the cache then.

// sum_i w_i (M - z_i). Where no weight is negative, no term is, so nothing cancels.
template <class Element>
double weighted_depth(const Element* row, float largest, std::int64_t classes, const float* weight) {
  double total = 0.0;
  for (std::int64_t start = 0; start < classes; start += kBlock) {
    const std::int64_t end = start + kBlock < classes ? start + kBlock : classes;
    F32 sums[kRegisters] = {};
    std::int64_t i = start;
    for (; i + kPack <= end; i += kPack)
      for (int j = 0; j < kRegisters; ++j) {
        const F32 depth = splat(largest) - load(row + i + j * kWidth);
        sums[j] = weight ? fma(load(weight + i + j * kWidth), depth, sums[j]) : sums[j] + depth;
      }
    total += sum_of_pack(sums);
    for (; i < end; ++i) total += (weight ? weight[i] : 1.0f) * (largest - to_compute(row[i]));
  }
  return total;
}

// Writes what LossRows holds of the first n rows of a group. The loss of a row is
//   by_hard hard + by_log_z log Z + depth.
FASTPRUNE_INLINE void write_loss_rows(const LossRows& loss, std::int64_t row, int n, const GroupSums& group,
                                      const Closed (&closed)[kRegisters], const Floats& by_hard, const Floats& depth,
                                      float by_log_z) {
  alignas(64) Floats largest;
  for (int i = 0; i < kPack; ++i) {
    const double max = group.max[i], label = group.label_logit[i];
    largest[i] = static_cast<float>(label > max ? label : max);
  }
  write(loss.losses + row, n, closed, FASTPRUNE_FORMULA {
    const F32 hard = loss_of(c), share = load(by_hard + j * kWidth);
    // With a smoothing of 1 the label has a share of 0 in its loss. A masked label's loss is infinite, and 0 times that
    // must give 0.
    const F32 own = where((share == F32{}) & (loss.smoothing == 1.0f ? -1 : 0), F32{}, hard * share);
    return own + fma(splat(by_log_z), log1p_nonnegative(c.v), load(depth + j * kWidth));
  });
  write(loss.largest + row, n, closed, FASTPRUNE_FORMULA { (void)c; return load(largest + j * kWidth); });
  write(loss.scale + row, n, closed, FASTPRUNE_FORMULA { return splat(1.0f) / c.total; });
  write(loss.doubt + row, n, closed, FASTPRUNE_FORMULA { return c.others / c.total; });
}

// The same for rows that lie in memory as a whole.
template <class Element>
void write_losses(const ScoringJob& job, std::int64_t row, int n, const RowGroup<Element>& rows,
                  const GroupSums& group, const Closed (&closed)[kRegisters]) {
  const LossRows& loss = *job.loss;
  // (1 - s) w_y hard + (s / C) (W log Z + sum_i w_i (M - z_i)), because -log p_i = log Z + (M - z_i).
  const double each = loss.smoothing / static_cast<double>(job.rows.classes);
  alignas(64) Floats by_hard, depth;
  for (int i = 0; i < kPack; ++i) {
    const double label_weight = rows.counted(i) && loss.weight ? loss.weight[rows.label[i]] : 1.0;
    by_hard[i] = static_cast<float>((1.0 - loss.smoothing) * label_weight);
    const double max = group.max[i], label = group.label_logit[i];
    const auto largest = static_cast<float>(label > max ? label : max);
    depth[i] = 0.0f;
    if (rows.counted(i) && loss.smoothing > 0.0f)
      depth[i] = static_cast<float>(each * weighted_depth(rows.logits[i], largest, job.rows.classes, loss.weight));
  }
  write_loss_rows(loss, row, n, group, closed, by_hard, depth, static_cast<float>(each * job.weight_sum));
}
