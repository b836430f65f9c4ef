// The driver of the kernels for tiles (scores/tile_kernels-inl.h). row_scores.cpp has the algebra and the accuracy.
//
// Label smoothing needs the mean of M - z over all classes. That is M less the mean logit, and the sum of all logits is
// carried in double. The loss is at least log C times the smoothing, so what cancels there is far below a float.
//
// Bytes: a tile is read once for the sums, and read and written once for the gradient. 56 bytes for each row and tile
// are read and written beside that.
#include "scores/tile_sums.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <type_traits>

#include "platform/instruction_sets.h"
#include "platform/parallel.h"
#include "platform/simd.h"
#include "scores/jobs.h"

namespace fastprune {
namespace {

struct TileJob {
  const Tile& tile;
  bool totals, begins;
  RowSums* sums;
};

struct ClosingJob {
  const RowSums* sums;
  double classes;
  const RowScores& scores;
  const LossRows* loss;  // null if only scores are wanted
};

struct TileGradientJob {
  const Tile& tile;
  std::int64_t classes;
  const LossRows& loss;
  const float* row_grad;
  double scale;
  float softcap;  // 0 for none
};

using TileKernel = void (*)(const TileJob& job, std::int64_t begin, std::int64_t end);
using ClosingKernel = void (*)(const ClosingJob& job, std::int64_t begin, std::int64_t end);
using TileGradientKernel = void (*)(const TileGradientJob& job, std::int64_t begin, std::int64_t end);

#define FASTPRUNE_PORTABLE_WIDTH 4
#define FASTPRUNE_KERNELS "scores/tile_kernels-inl.h"
#include "platform/each_instruction_set.h"

std::int64_t min_rows(const Tile& tile) { return std::max<std::int64_t>(kClassesPerThread / (tile.classes + 8), 1); }

}  // namespace

void add_tile(const Tile& tile, Sought sought, bool totals, bool begins, RowSums* sums) {
  const TileKernel kernel = FASTPRUNE_DISPATCH(tile_adder(tile.dtype, sought));
  const TileJob job{tile, totals, begins, sums};
  parallel_for(tile.rows, tile.threads, min_rows(tile),
               [&](std::int64_t begin, std::int64_t end) { kernel(job, begin, end); });
}

void close_sums(const RowSums* sums, std::int64_t rows, std::int64_t classes, int threads, const RowScores& scores,
                const LossRows* loss) {
  const Level level = scores.metric[kEntropy] ? kSpread : scores.metric[kEl2n] ? kSquares : kSum;
  const ClosingKernel kernel = FASTPRUNE_DISPATCH(closer(level));
  const ClosingJob job{sums, static_cast<double>(classes), scores, loss};
  parallel_for(rows, threads, std::int64_t{4096},
               [&](std::int64_t begin, std::int64_t end) { kernel(job, begin, end); });
}

void tile_gradient(const Tile& tile, std::int64_t classes, const LossRows& loss, const float* row_grad, float scale,
                   float softcap) {
  const TileGradientKernel kernel = FASTPRUNE_DISPATCH(tile_gradient_of(tile.dtype));
  const TileGradientJob job{tile, classes, loss, row_grad, scale, softcap};
  parallel_for(tile.rows, tile.threads, min_rows(tile),
               [&](std::int64_t begin, std::int64_t end) { kernel(job, begin, end); });
}

}  // namespace fastprune
