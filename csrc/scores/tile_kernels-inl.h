// The kernels for tiles: sums, closing, gradient.
//
// Included once for each instruction set, by platform/each_instruction_set.h for tile_sums.cpp. It lists its parts in
// the order in which they build on each other.
//
// Gives tile_adder(dtype, sought), close_rows and tile_gradient_of(dtype), which tile_sums.cpp calls.
#include "platform/simd-inl.h"

#include "scores/packs-inl.h"
#include "scores/exp_log-inl.h"
#include "scores/blocks-inl.h"
#include "scores/row_sums-inl.h"
#include "scores/row_groups-inl.h"
#include "scores/closed_forms-inl.h"
#include "scores/row_losses-inl.h"
#include "scores/gradient_row-inl.h"

// Rows [begin, end) of a tile.
template <Level kLevel, class Element>
void add_rows(const TileJob& job, std::int64_t begin, std::int64_t end) {
  const Tile& tile = job.tile;
  for (std::int64_t i = begin; i < end; ++i) {
    const Element* row = static_cast<const Element*>(tile.logits) + i * tile.classes;
    const std::int64_t label = tile.labels[i] - tile.first_class;
    RowSums& to = job.sums[i];
    if (job.begins) to = RowSums{0.0, -kInf<double>, 0.0, 0.0, 0.0, 0.0, 0.0};
    if (label >= 0 && label < tile.classes) to.label_logit = to_compute(row[label]);
    Sums sums;
    sums.max = to.max;
    sums.s1 = to.s1;
    sums.s2 = to.s2;
    sums.rest = to.rest;
    sums.spread = to.spread;
    sums = sum_others<kLevel>(row, tile.classes, label, sums);
    to.max = sums.max;
    to.s1 = sums.s1;
    to.s2 = sums.s2;
    to.rest = sums.rest;
    to.spread = sums.spread;
    if constexpr (!std::is_same_v<Element, double>) {
      if (job.totals) {
        const float reference = sums.max == -kInf<double> ? 0.0f : static_cast<float>(sums.max);
        to.total += static_cast<double>(tile.classes) * reference -
                    weighted_depth(row, reference, tile.classes, nullptr);
      }
    }
  }
}

// Rows [begin, end), from their sums.
template <Level kLevel>
void close_rows(const ClosingJob& job, std::int64_t begin, std::int64_t end) {
  for (std::int64_t row = begin; row < end; row += kPack) {
    const int n = end - row < kPack ? static_cast<int>(end - row) : kPack;
    RowGroup<float> rows;  // only its labels are read, and they say which rows count
    GroupSums group;
    alignas(64) Floats by_hard, depth;
    for (int i = 0; i < kPack; ++i) {
      const RowSums& from = job.sums[row + (i < n ? i : n - 1)];
      rows.label[i] = i < n ? 0 : -1;
      group.put(i, from.label_logit, Sums{from.max, from.s1, from.s2, from.rest, from.spread});
      const double top = from.label_logit > from.max ? from.label_logit : from.max;
      const double smoothing = job.loss ? job.loss->smoothing : 0.0f;
      by_hard[i] = static_cast<float>(1.0 - smoothing);
      depth[i] = smoothing > 0.0 ? static_cast<float>(smoothing * (top - from.total / job.classes)) : 0.0f;
    }
    Closed closed[kRegisters];
    close(rows, group, closed);
    write_scores<kLevel>(job.scores, row, n, closed);
    if (job.loss) write_loss_rows(*job.loss, row, n, group, closed, by_hard, depth, job.loss->smoothing);
  }
}

// Rows [begin, end) of a tile become their gradient.
template <class Element>
void differentiate_rows(const TileGradientJob& job, std::int64_t begin, std::int64_t end) {
  const Tile& tile = job.tile;
  const LossRows& loss = job.loss;
  const auto all = static_cast<double>(job.classes);
  for (std::int64_t i = begin; i < end; ++i) {
    Element* row = static_cast<Element*>(tile.logits) + i * tile.classes;
    const std::int64_t label = tile.labels[i] - tile.first_class;
    const bool has_label = label >= 0 && label < tile.classes;
    const float label_logit = has_label ? to_compute(row[label]) : 0.0f;
    const double g = job.scale * job.row_grad[i];
    const double hard = g * (1.0 - loss.smoothing), each = g * loss.smoothing / all;
    const double by_p = (hard + each * all) * loss.scale[i];
    const float inverse_cap = job.softcap > 0.0f ? 1.0f / job.softcap : 0.0f;
    const RowGradient gradient{loss.largest[i], static_cast<float>(by_p), static_cast<float>(each), inverse_cap};
    job.softcap > 0.0f ? gradient_row<false, true>(row, row, nullptr, tile.classes, gradient)
                       : gradient_row<false, false>(row, row, nullptr, tile.classes, gradient);
    if (!has_label) continue;
    const double doubt = loss.doubt[i], capped = label_logit * inverse_cap;
    const double own = -hard * doubt + each * (all * (1.0 - doubt) - 1.0);
    store_rounded(row + label, static_cast<float>(own * (1.0 - capped * capped)));
  }
}

template <class Element>
FASTPRUNE_INLINE TileKernel adder_of(Sought sought) {
  switch (sought) {
    case Sought::kSum: return add_rows<kSum, Element>;
    case Sought::kSquares: return add_rows<kSquares, Element>;
    default: return add_rows<kSpread, Element>;
  }
}

inline TileKernel tile_adder(DType dtype, Sought sought) {
  switch (dtype) {
    case DType::kFloat16: return adder_of<Half>(sought);
    case DType::kBFloat16: return adder_of<BFloat16>(sought);
    case DType::kFloat32: return adder_of<float>(sought);
    case DType::kFloat64: return adder_of<double>(sought);
    default: return nullptr;
  }
}

inline ClosingKernel closer(Level level) {
  switch (level) {
    case kSum: return close_rows<kSum>;
    case kSquares: return close_rows<kSquares>;
    default: return close_rows<kSpread>;
  }
}

inline TileGradientKernel tile_gradient_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat16: return differentiate_rows<Half>;
    case DType::kBFloat16: return differentiate_rows<BFloat16>;
    case DType::kFloat32: return differentiate_rows<float>;
    default: return nullptr;
  }
}
