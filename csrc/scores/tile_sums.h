// Scores and losses of rows whose logits come in tiles: some classes of every row at a time.
//
// An ordinary header: all that Python's bindings need of this part.
//
// Why: the logits of a language model's head are a product of two small matrices. A tile of the product stays in the
// cache while it is read, and the whole matrix is never stored. The sums of a row are carried from tile to tile.
//
// The steps: add_tile for each tile, in any order, then close_sums. For the gradient, tile_gradient for each tile.
#pragma once

#include <cstdint>

#include "platform/dtypes.h"
#include "scores/row_scores.h"

namespace fastprune {

// The sums of a row over the classes seen so far, without its label. row_scores.cpp has the algebra. Python keeps these
// as seven columns of float64 and merges those of several processes (fastprune/scores/tile_sums.py).
struct RowSums {
  double label_logit;  // 0 as long as the label was in no tile
  double max;          // the largest logit m, or -inf
  double s1, s2;       // of e^(z - m), and of its square
  double rest;         // s1 - 1 without cancellation
  double spread;       // of e^(z - m) (m - z)
  double total;        // of z, the label's included
};

// A tile of logits.
struct Tile {
  void* logits;  // (rows, classes) of `dtype`, contiguous
  DType dtype;   // one of the four floating-point types
  std::int64_t rows, classes;
  std::int64_t first_class;    // the class of column 0
  const std::int64_t* labels;  // (rows), of all classes. Every row counts. Read only.
  int threads;                 // upper bound on the threads used
};

// What the sums must hold. Each level holds those before it.
enum class Sought { kSum, kSquares, kSpread };

// Adds a tile to the sums of its rows, or begins them.
//
// sought   kSum for the loss, confidence, margin and correct, kSquares for el2n too, kSpread for entropy too. It is the
//          same for all tiles.
// totals   whether RowSums::total is wanted, for label smoothing.
// begins   whether `sums` is to be written without being read.
//
// Cost: one read of the tile, and one exponential for each logit, or two for kSpread.
// Determinism: as in row_scores.h. If every tile but the last has a multiple of 1024 classes and they come in order,
// the sums are the same bits as those of one tile.
void add_tile(const Tile& tile, Sought sought, bool totals, bool begins, RowSums* sums);

// Writes the scores and, if `loss` is not null, what LossRows says of `rows` rows. `loss->weight` is null. `classes` is
// the number of all classes. O(rows).
void close_sums(const RowSums* sums, std::int64_t rows, std::int64_t classes, int threads, const RowScores& scores,
                const LossRows* loss);

// Replaces the logits of a tile by the gradient of the losses with respect to them:
//   g ((1 - s) (p_i - [i = y]) + s (p_i - 1 / C)),   g = row_grad * scale
// With a softcap c the logits are z = c tanh(a / c), and the gradient is with respect to a: the above times
// 1 - (z / c)^2.
//
// classes  the number of all classes
// loss     what close_sums wrote. `losses` is not used.
// softcap  c, or 0 for none
//
// Cost: one read and one write of the tile, and one exponential for each logit. Takes all types but float64.
void tile_gradient(const Tile& tile, std::int64_t classes, const LossRows& loss, const float* row_grad, float scale,
                   float softcap);

}  // namespace fastprune
