// Exact selection of the k largest (or smallest) of n scores.
#pragma once

#include <cstdint>

#include "platform/dtypes.h"

namespace fastprune {

// Where NaN scores come in the order.
enum class NanPolicy : int { kRaise, kFirst, kLast };

// Writes the indices of the k selected scores to out[0..k), in ascending order. Returns -1, or with
// NanPolicy::kRaise the position of the first NaN, if there is one; then out is unspecified.
//
// scores  n elements of `dtype`, `stride` bytes apart (any number, negative too), aligned or not; read only.
// Order:  numeric; -0.0 equals 0.0, infinities are ordinary values. NaN comes before all numbers (kFirst) or
//         after them (kLast), whichever way the numbers are ordered.
// Ties:   of equal scores at the threshold, those with the smaller index are selected.
// Time:   O(n) expected, whatever the values. The scores are read twice, on up to `threads` threads, and a sample
//         of them before. About once in 400 calls the sample misleads, and they are read three times; as good as
//         never twice, and then up to three more times (32 bits) or six (64 bits) on one thread. Scores that hold a
//         NaN, and few kept out of a mass of equal ones, are read once more as well.
// Memory: at most n / 8 bytes, 128 KiB a thread and 256 KiB, as a rule a fraction of it.
// Thread safety: reentrant; the result is a function of the scores alone.
//
// Requires 0 <= k <= n. n may be anything that can be addressed. Throws std::bad_alloc.
std::int64_t select_topk(const void* scores, DType dtype, std::int64_t n, std::int64_t stride, std::int64_t k,
                         bool largest, NanPolicy nan, int threads, std::int64_t* out);

}  // namespace fastprune
