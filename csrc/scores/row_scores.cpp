// The algebra, and the driver of the row kernels (scores/row_kernels-inl.h).
//
// One read of a row z with label y, without cancellation:
//
//   m  = max_{i != y} z_i
//   S1 = sum_{i != y} e^(z_i - m),   S2 = sum_{i != y} (e^(z_i - m))^2
//   M  = max(m, z_y),  w = e^(m - M),  p~ = e^(z_y - M)
//   EL2N = w sqrt(S1^2 + S2) / (w S1 + p~)
//   loss = max(m - z_y, 0) + log1p(v),   v = w S1 if z_y >= m, else (S1 - 1) + p~
//   confidence = p~ / (w S1 + p~),   margin = z_y - m,   correct = z_y >= m
//
// 1 - p_y is w S1 over a sum of positive terms. It is never a difference of two numbers near one, so confident rows
// keep their digits. The label's term is left out by putting -inf in its place in the sixteen values that hold it.
//
// Entropy also needs the sums without one of the largest logits, called top:
//
//   R = sum_{i != top} e^(z_i - M),   T = sum_{i != top} e^(z_i - M) (M - z_i)
//   entropy = log1p(R) + T / (1 + R)
//
// A row goes through in blocks of 1024 classes that stay in the first-level cache. For each block the kernel finds the
// maximum, rescales the sums if the maximum is new, and adds the block's exponentials. Meanwhile the next block is
// fetched. Rows of up to 512 classes go four at a time. Rows of up to 192 classes go sixteen at a time, one row in each
// lane. The sums of sixteen rows are closed together, so that the closed forms work on registers, too.
//
// Accuracy: the sums across blocks are in double. Inside a block a float goes through at most 35 additions. The
// relative error of S1 has three parts: 35 * 2^-24 for these, at most 2^-21 for rounding z - m where a term counts, and
// 2.3e-7 for the exponential. That is 2.8e-6 in the worst case, and 4e-7 in practice.
//
// Bytes: classes * sizeof(element) read for each row, and 4 written for each row and metric. The gradient reads and
// writes classes * sizeof(element) for each row.
#include "scores/row_scores.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <numeric>
#include <type_traits>

#include "platform/huge_pages.h"
#include "platform/instruction_sets.h"
#include "platform/parallel.h"
#include "platform/simd.h"
#include "scores/jobs.h"

namespace fastprune {
namespace {

// Four floats are what SSE2 and NEON have, the least of x86-64 and aarch64.
#define FASTPRUNE_PORTABLE_WIDTH 4
#define FASTPRUNE_KERNELS "scores/row_kernels-inl.h"
#include "platform/each_instruction_set.h"

// The fewest rows that are worth a thread.
std::int64_t min_rows(const Rows& rows) {
  const std::int64_t enough = std::max<std::int64_t>(kClassesPerThread / (rows.classes + 8), 1);
  return rows.classes < 4096 ? (enough + kPack - 1) / kPack * kPack : enough;
}

double sum_of_weights(const Rows& rows, const LossRows& loss) {
  if (loss.weight == nullptr) return static_cast<double>(rows.classes);
  return std::accumulate(loss.weight, loss.weight + rows.classes, 0.0);
}

std::int64_t score(const Rows& rows, const RowScores& scores, const LossRows* loss) {
  const Level level = scores.metric[kEntropy] ? kSpread : scores.metric[kEl2n] ? kSquares : kSum;
  const ScoringKernel kernel = FASTPRUNE_DISPATCH(scorer(rows.dtype, level));
  FirstBad bad;
  const ScoringJob job{rows, scores, loss, loss ? sum_of_weights(rows, *loss) : 0.0, &bad};
  parallel_for(rows.batch * rows.tokens, rows.threads, min_rows(rows),
               [&](std::int64_t begin, std::int64_t end) { kernel(job, begin, end); });
  return bad.position();
}

}  // namespace

std::int64_t row_scores(const Rows& rows, const RowScores& scores) { return score(rows, scores, nullptr); }

std::int64_t cross_entropy_forward(const Rows& rows, const RowScores& scores, const LossRows& loss) {
  return score(rows, scores, &loss);
}

void cross_entropy_backward(const Rows& rows, const LossRows& loss, const float* row_grad,
                            std::int64_t grad_batch_stride, std::int64_t grad_token_stride,
                            float scale, void* grad) {
  const GradientKernel kernel = FASTPRUNE_DISPATCH(gradient(rows.dtype));
  const GradientJob job{rows, loss, sum_of_weights(rows, loss), row_grad,
                        grad_batch_stride, grad_token_stride, scale, grad};
  const std::int64_t width = rows.dtype == DType::kFloat32 ? 4 : 2;
  prefer_huge_pages(grad, static_cast<std::size_t>(rows.batch * rows.tokens * rows.classes * width));
  parallel_for(rows.batch * rows.tokens, rows.threads, min_rows(rows),
               [&](std::int64_t begin, std::int64_t end) { kernel(job, begin, end); });
}

double label_weights(const Rows& rows, const float* weight) {
  double total = 0.0;
  for (std::int64_t b = 0; b < rows.batch; ++b) {
    for (std::int64_t t = rows.shift; t < rows.tokens; ++t) {
      const std::int64_t label = rows.labels[b * rows.labels_batch_stride + t * rows.labels_token_stride];
      if (label != rows.ignore_index) total += weight ? weight[label] : 1.0;
    }
  }
  return total;
}

double ordered_sum(const float* values, std::int64_t n) {
  double part[8] = {};
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int j = 0; j < 8; ++j) part[j] += values[i + j];
  for (; i < n; ++i) part[0] += values[i];
  return ((part[0] + part[4]) + (part[2] + part[6])) + ((part[1] + part[5]) + (part[3] + part[7]));
}

}  // namespace fastprune
