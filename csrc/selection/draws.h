// Random numbers by counter: the draw of example i depends on (seed, round, i) alone.
//
// An ordinary header: all that Python's bindings need of the draws. Every function takes O(n) on up to `threads`
// threads, and needs no memory beyond `out`. Its bits do not depend on the machine or the number of threads.
#pragma once

#include <cstdint>

namespace fastprune {

// Names a stream of draws.
struct Stream {
  std::uint64_t seed, round;
};

// Writes uniform numbers of (0, 1), 52 random bits each, for examples first, first + 1, … to out[0..n): the first two
// words of Philox4x32-10 (Salmon et al. 2011) of the counter (i, round) under the key `seed`.
void uniforms(Stream stream, std::uint64_t first, std::int64_t n, int threads, double* out);

// Writes the same numbers for the examples ids[0..n).
void uniforms_of(Stream stream, const std::int64_t* ids, std::int64_t n, int threads, double* out);

// Writes log_weights[i] + G_i, where G_i = -log(-log(u_i)) is the Gumbel draw of example i. The k largest are a draw of
// k without replacement, with chances in proportion to the weights (Kool et al. 2019). The logarithms are those below.
void gumbel_keys(Stream stream, const double* log_weights, std::int64_t n, int threads, double* out);

// Writes log(x[i]) for finite x[i] > 0, to within 2 units in the last place. It consists of IEEE operations in a fixed
// order, so that the bits do not depend on the machine's library.
void logarithms(const double* x, std::int64_t n, int threads, double* out);

}  // namespace fastprune
