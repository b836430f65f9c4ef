// One read of a row z with label y, without cancellation:
//
//   m  = max_{i != y} z_i
//   S1 = sum_{i != y} e^(z_i - m),   S2 = sum_{i != y} (e^(z_i - m))^2
//   M  = max(m, z_y),  w = e^(m - M)
//   EL2N = w sqrt(S1^2 + S2) / (w S1 + e^(z_y - M))
//   loss = log1p(S1 e^(m - z_y))                  if z_y >= m
//          (m - z_y) + log(S1 + e^(z_y - m))      otherwise
//
// 1 - p_y is S1 over a sum of positive terms, never a difference of two numbers near one, so
// confident rows keep their digits. The label's term is left out by putting -inf in its place in
// the block that holds it.
//
// A row goes through in blocks of 512 classes that stay in the first-level cache: find the block's
// maximum, rescale the sums if it is a new one, add the block's exponentials. The sums across blocks
// are in double, and inside a block a lane adds at most 32 floats. The relative error of S1 is
// below (32 adds) * 2^-24 + (rounding of z - m, at most 2^-21 where a term counts) + (the
// exponential, 1.3e-7) = 2.6e-6 in the worst case, 4e-7 in practice; the closed forms are in double.
//
// Bytes: classes * sizeof(element) read and 4 or 8 written for a row.
#include "row_scores.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "parallel.h"

namespace fastprune {
namespace {

// Scores rows [begin, end).
using RowScorer = void (*)(const RowScoresArgs& args, std::int64_t begin, std::int64_t end);

// The kernel is compiled for each instruction set and picked at run time, so that one wheel serves
// all machines of a platform. Four floats are SSE2 and NEON, the least x86-64 and aarch64 have.
#define FASTPRUNE_WIDTH 4
namespace baseline {
#include "lanes.h"
#include "row_kernel.h"
}  // namespace baseline
#undef FASTPRUNE_WIDTH

#if defined(__x86_64__) && defined(__GNUC__)

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2")
#endif
#define FASTPRUNE_WIDTH 8
namespace avx2 {
#include "lanes.h"
#include "row_kernel.h"
}  // namespace avx2
#undef FASTPRUNE_WIDTH
#ifdef __clang__
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx2,avx512f,avx512bw,avx512dq,avx512vl"))), \
                             apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,avx512f,avx512bw,avx512dq,avx512vl")
#endif
#define FASTPRUNE_WIDTH 16
namespace avx512 {
#include "lanes.h"
#include "row_kernel.h"
}  // namespace avx512
#undef FASTPRUNE_WIDTH
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

RowScorer best_scorer(DType dtype) {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return avx512::scorer(dtype);
  if (__builtin_cpu_supports("avx2")) return avx2::scorer(dtype);
  return baseline::scorer(dtype);
}

#else

RowScorer best_scorer(DType dtype) { return baseline::scorer(dtype); }

#endif

// About 30 us of exponentials: below this a thread costs more than it saves.
constexpr std::int64_t kClassesPerThread = 1 << 16;

}  // namespace

std::int64_t first_bad_label(const RowScoresArgs& args) {
  for (std::int64_t b = 0; b < args.batch; ++b) {
    for (std::int64_t t = args.shift; t < args.tokens; ++t) {
      const std::int64_t label =
          args.labels[b * args.labels_batch_stride + t * args.labels_token_stride];
      if ((label < 0 || label >= args.classes) && label != args.ignore_index)
        return b * args.tokens + t;
    }
  }
  return -1;
}

void row_scores(const RowScoresArgs& args) {
  const RowScorer score = best_scorer(args.dtype);
  const std::int64_t min_rows = std::max<std::int64_t>(kClassesPerThread / args.classes, 1);
  parallel_for(args.batch * args.tokens, args.threads, min_rows,
               [&](std::int64_t begin, std::int64_t end) { score(args, begin, end); });
}

}  // namespace fastprune
