// Exact selection of the k largest (or smallest) of n scores.
#pragma once

#include <cstdint>

#include "dtypes.h"

namespace fastprune {

// The position of the first NaN, -1 if there is none (always for integers). O(n).
//
// scores  n elements of `dtype`, `stride` elements apart (any sign); read only.
std::int64_t first_nan(const void* scores, DType dtype, std::int64_t n, std::int64_t stride);

// Writes the indices of the k selected scores to out[0..k), in ascending order.
//
// Order: numeric; -0.0 equals 0.0, infinities are ordinary values. There must be no NaN.
// Ties:   of equal scores at the threshold, those with the smaller index are selected.
// Time:   O(n) whatever the values: at most one read of the scores per 11 bits of the element to
//         find the threshold, and one to write the indices.
// Memory: 32 KiB of stack; nothing is allocated, the scores are not copied.
// Thread safety: reentrant; the result is a function of the scores alone.
//
// Requires 0 <= k <= n.
void select_topk(const void* scores, DType dtype, std::int64_t n, std::int64_t stride,
                 std::int64_t k, bool largest, std::int64_t* out);

}  // namespace fastprune
