// Exact selection of the k largest (or smallest) of n scores.
#pragma once

#include <cstdint>

#include "dtypes.h"

namespace fastprune {

// Writes the indices of the k selected scores to out[0..k), in ascending order. Returns -1, or the position of
// the first NaN, if there is one; then out is unspecified.
//
// scores  n elements of `dtype`, `stride` elements apart (any sign); read only.
// Order:  numeric; -0.0 equals 0.0, infinities are ordinary values.
// Ties:   of equal scores at the threshold, those with the smaller index are selected.
// Time:   O(n) whatever the values. Floats at stride 1 are read twice, on up to `threads` threads; other
//         scores once per 11 bits of the element to find the threshold and once more, on one thread.
// Memory: at most n / 2 bytes and 48 KiB a thread, as a rule n / 5.
// Thread safety: reentrant; the result is a function of the scores alone.
//
// Requires 0 <= k <= n.
std::int64_t select_topk(const void* scores, DType dtype, std::int64_t n, std::int64_t stride,
                         std::int64_t k, bool largest, int threads, std::int64_t* out);

}  // namespace fastprune
