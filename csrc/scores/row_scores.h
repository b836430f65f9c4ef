// Scores of rows of logits, and the cross-entropy loss with its gradient, each from one read of a row.
#pragma once

#include <cstdint>

#include "platform/dtypes.h"

namespace fastprune {

// Where the logits and labels lie. Strides are in elements and may be anything, 0 and negative included.
struct Rows {
  const void* logits;  // (batch, tokens, classes) of `dtype`, class stride 1; read only
  DType dtype;         // one of the four floating-point types
  std::int64_t batch, tokens, classes;
  std::int64_t logits_batch_stride, logits_token_stride;
  const std::int64_t* labels;  // (batch, tokens); read only
  std::int64_t labels_batch_stride, labels_token_stride;
  std::int64_t shift;         // row (b, t) is scored against label (b, t + shift); >= 0
  std::int64_t ignore_index;  // rows with this label score 0, as do rows without a label
  int threads;                // upper bound on the threads used
};

// In the order of METRICS in fastprune/scores/definition.py.
enum Metric { kEl2n, kLoss, kConfidence, kMargin, kEntropy, kCorrect, kMetrics };

// Each is (batch, tokens) contiguous and written in full, or null if it is not wanted.
struct RowScores {
  float* metric[kMetrics];
};

// What cross_entropy_forward writes besides scores; the first three as the arrays of RowScores.
struct LossRows {
  float* losses;    // weighted and smoothed, not reduced
  float* largest;   // M = max_i z_i
  float* scale;     // 1 / Z, Z = sum_i e^(z_i - M)
  float* doubt;     // 1 - p_y
  const float* weight;  // (classes), null for ones; read only
  float smoothing;      // in [0, 1]
};

// Writes the scores that are wanted. Returns -1, or the flat position b * tokens + t of the first label
// that is used and neither ignore_index nor in [0, classes); the scores are then unspecified.
//
// A NaN or +inf logit, or a row of only -inf, scores NaN in every metric; see
// fastprune/scores/definition.py for masked classes (-inf).
//
// Accuracy: relative error <= 4e-6 against exact arithmetic on the given logits, in every metric, down to
// 1e-12; where e^gap is below e^-87 it counts as 0.
// Determinism: a row's bits depend on that row alone, not on the batch or the number of threads, and
// are the same on AVX-512 and AVX2 processors.
// Cost: one read of the logits, one exponential each, two with entropy; 40 KiB of stack a thread at most, no other memory.
// Thread safety: reentrant; the caller keeps the arrays alive and unchanged during the call.
std::int64_t row_scores(const Rows& rows, const RowScores& scores);

// The same, and for float16, bfloat16 and float32 logits the loss of each row:
//   (1 - s) w_y l_y + (s / C) sum_i w_i l_i,   l_i = -log p_i
// With smoothing the logits are read twice.
std::int64_t cross_entropy_forward(const Rows& rows, const RowScores& scores, const LossRows& loss);

// The gradient of the losses, times `scale`:
//   g ((1 - s) w_y (p_i - [i = y]) + (s / C) (W p_i - w_i)),   g = row_grad * scale, W = sum_i w_i
//
// loss      as written by cross_entropy_forward for the same rows; `losses` is not used.
// row_grad  gradient of each row's loss: element (b, t) at b * batch_stride + t * token_stride.
// grad      (batch, tokens, classes) of the logits' dtype, contiguous; written in full, 0 in rows that
//           score 0. May not overlap the logits.
//
// Cost: one read of the logits, one write of the gradient, one exponential each.
void cross_entropy_backward(const Rows& rows, const LossRows& loss, const float* row_grad,
                            std::int64_t grad_batch_stride, std::int64_t grad_token_stride,
                            float scale, void* grad);

// The sum of the weights of the labels that are counted; their number if `weight` is null. O(rows).
double label_weights(const Rows& rows, const float* weight);

// The sum of `n` floats in double, always in the same order.
double ordered_sum(const float* values, std::int64_t n);

}  // namespace fastprune
