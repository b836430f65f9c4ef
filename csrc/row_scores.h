// EL2N and cross-entropy loss of rows of logits, in one read of each row.
#pragma once

#include <cstdint>

#include "dtypes.h"

namespace fastprune {

struct RowScoresArgs {
  const void* logits;         // (batch, tokens, classes) of `dtype`, class stride 1; read only
  DType dtype;                // one of the four floating-point types
  std::int64_t batch, tokens, classes;
  std::int64_t logits_batch_stride, logits_token_stride;  // in elements
  const std::int64_t* labels;                             // (batch, tokens); read only
  std::int64_t labels_batch_stride, labels_token_stride;  // in elements
  std::int64_t shift;         // row (b, t) is scored against label (b, t + shift); >= 0
  std::int64_t ignore_index;  // rows with this label score 0
  float* el2n;                // (batch, tokens) contiguous, written in full; null: not wanted
  float* loss;                // likewise
  int threads;                // upper bound on threads used
};

// The flat position b * tokens + (t + shift) of the first label that is used and is neither
// ignore_index nor in [0, classes); -1 if there is none. O(batch * tokens).
std::int64_t first_bad_label(const RowScoresArgs& args);

// Writes the scores. Every used label must be valid (first_bad_label returned -1).
//
// Row (b, t) with t + shift >= tokens scores 0, as does an ignored row, whatever its logits. A NaN
// or +inf logit, or a row of only -inf, scores NaN. Other -inf logits are left out of the sums; if
// nothing but the label is left the row scores 0.
//
// Accuracy: relative error <= 4e-6 against exact arithmetic on the given logits, in both outputs.
// Determinism: a row's bits depend on that row alone, not on the batch or the number of threads.
// Cost: one read of the logits, one exponential each; 4 KiB of stack a thread at most, no other memory.
// Thread safety: reentrant; the caller keeps the arrays alive and unchanged during the call.
void row_scores(const RowScoresArgs& args);

}  // namespace fastprune
