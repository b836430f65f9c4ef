// What row_scores.cpp, tile_sums.cpp and their kernels agree on.
//
// Included by these two files alone, before the kernels, hence the unnamed namespace.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>

#include "platform/dtypes.h"
#include "scores/row_scores.h"

namespace fastprune {
namespace {

// A pack is this many values side by side, whatever the width of a register. Sums go round the lanes of a pack: value i
// of a row is added to lane i % kPack. Rows are scored in groups of as many.
constexpr int kPack = 16;

// About 10 us of exponentials. With less work a thread costs more than it saves.
constexpr std::int64_t kClassesPerThread = 1 << 17;

// Which sums of a row are wanted. Each level holds those before it.
enum Level { kSum, kSquares, kSpread };

// The smallest position that any thread reports.
class FirstBad {
 public:
  void report(std::int64_t position) {
    std::int64_t seen = position_.load(std::memory_order_relaxed);
    while (position < seen && !position_.compare_exchange_weak(seen, position, std::memory_order_relaxed)) {
    }
  }
  // -1 if there was no report.
  std::int64_t position() const {
    const std::int64_t at = position_.load(std::memory_order_relaxed);
    return at == kNone ? -1 : at;
  }

 private:
  static constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::max();
  std::atomic<std::int64_t> position_{kNone};
};

// The arguments of row_scores or cross_entropy_forward.
struct ScoringJob {
  const Rows& rows;
  const RowScores& scores;
  const LossRows* loss;  // null if only scores are wanted
  double weight_sum;     // of all classes
  FirstBad* bad;
};

// The arguments of cross_entropy_backward.
struct GradientJob {
  const Rows& rows;
  const LossRows& loss;
  double weight_sum;
  const float* row_grad;
  std::int64_t grad_batch_stride, grad_token_stride;
  double scale;
  void* grad;
};

// A kernel works on rows [begin, end).
using ScoringKernel = void (*)(const ScoringJob& job, std::int64_t begin, std::int64_t end);
using GradientKernel = void (*)(const GradientJob& job, std::int64_t begin, std::int64_t end);

}  // namespace
}  // namespace fastprune
