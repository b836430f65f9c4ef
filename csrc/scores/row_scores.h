// Scores of rows of logits, and the cross-entropy loss with its gradient, each from one read of a row.
//
// An ordinary header: all that Python's bindings need of this folder.
#pragma once

#include <cstdint>

#include "platform/dtypes.h"

namespace fastprune {

// Where the logits and labels lie. Strides are in elements and may have any value, also 0 and negative ones.
struct Rows {
  const void* logits;  // (batch, tokens, classes) of `dtype`, class stride 1. Read only.
  DType dtype;         // one of the four floating-point types
  std::int64_t batch, tokens, classes;
  std::int64_t logits_batch_stride, logits_token_stride;
  const std::int64_t* labels;  // (batch, tokens). Read only.
  std::int64_t labels_batch_stride, labels_token_stride;
  std::int64_t shift;         // row (b, t) is scored against label (b, t + shift), and shift >= 0
  std::int64_t ignore_index;  // rows with this label score 0, as do rows without a label
  int threads;                // upper bound on the threads used
};

// In the order of KERNEL_METRICS in fastprune/scores/metrics.py.
enum Metric { kEl2n, kLoss, kConfidence, kMargin, kEntropy, kCorrect, kMetrics };

// Where each metric goes: (batch, tokens) contiguous and written in full, or null if it is not wanted.
struct RowScores {
  float* metric[kMetrics];
};

// What cross_entropy_forward writes besides scores. The first four are arrays like those of RowScores.
struct LossRows {
  float* losses;        // weighted and smoothed, not reduced
  float* largest;       // M = max_i z_i
  float* scale;         // 1 / Z, Z = sum_i e^(z_i - M)
  float* doubt;         // 1 - p_y
  const float* weight;  // (classes), or null for ones. Read only.
  float smoothing;      // in [0, 1]
};

// Writes the scores that are wanted. Returns -1 if all labels are good. A label that is used must be ignore_index or
// lie in [0, classes). For the first bad one returns its flat position b * tokens + t, and the scores are unspecified.
//
// A row with a NaN or +inf logit scores NaN in every metric, and so does a row of only -inf. For masked classes (-inf)
// see fastprune/scores/definition.py.
//
// Accuracy:      the relative error is <= 4e-6 against exact arithmetic on the given logits, in every metric, down to
//                1e-12. An e^gap below e^-87 counts as 0.
// Determinism:   a row's bits depend on that row alone, not on the batch or the number of threads. AVX-512 and AVX2
//                processors give the same bits.
// Cost:          one read of the logits, and one exponential for each logit, or two with entropy.
// Memory:        at most 40 KiB of stack for each thread.
// Thread safety: reentrant. The caller keeps the arrays alive and unchanged during the call.
std::int64_t row_scores(const Rows& rows, const RowScores& scores);

// The same, and the loss of each row. s is the smoothing, w the weights, and C the number of classes:
//   (1 - s) w_y l_y + (s / C) sum_i w_i l_i,   l_i = -log p_i
// Takes float16, bfloat16 and float32 logits. With smoothing they are read twice.
std::int64_t cross_entropy_forward(const Rows& rows, const RowScores& scores, const LossRows& loss);

// The gradient of the losses, times `scale`:
//   g ((1 - s) w_y (p_i - [i = y]) + (s / C) (W p_i - w_i)),   g = row_grad * scale, W = sum_i w_i
//
// loss      what cross_entropy_forward wrote for the same rows. `losses` is not used.
// row_grad  the gradient g of each row's loss. Element (b, t) is at b * batch_stride + t * token_stride.
// grad      (batch, tokens, classes) of the logits' dtype, contiguous. It is written in full, with 0 in rows that
//           score 0. It may not overlap the logits.
//
// Cost: one read of the logits, one write of the gradient, and one exponential for each logit.
void cross_entropy_backward(const Rows& rows, const LossRows& loss, const float* row_grad,
                            std::int64_t grad_batch_stride, std::int64_t grad_token_stride,
                            float scale, void* grad);

// The sum of the weights of the labels that are counted, or their number if `weight` is null. O(rows).
double label_weights(const Rows& rows, const float* weight);

// The sum of n floats in double, always in the same order. O(n).
double ordered_sum(const float* values, std::int64_t n);

}  // namespace fastprune
