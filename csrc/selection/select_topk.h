// Exact selection of the k largest (or smallest) of n scores.
//
// An ordinary header: all that Python's bindings need of the selection.
#pragma once

#include <cstdint>

#include "platform/dtypes.h"

namespace fastprune {

// What a NaN score means: an error, the first place in the order, or the last one.
enum class NanPolicy : int { kRaise, kFirst, kLast };

// Writes the indices of the k selected scores to out[0..k), in ascending order. Returns -1. With NanPolicy::kRaise and
// a NaN among the scores, it returns the position of the first NaN instead, and `out` is unspecified.
//
// scores  n elements of `dtype`, `stride` bytes apart. The stride may be negative, and the elements need not be
// aligned.
//         They are only read.
// Order:  numeric. -0.0 equals 0.0, and infinities are ordinary values. NaN comes before all numbers (kFirst) or after
//         them (kLast), whichever way the numbers are ordered.
// Ties:   of equal scores at the threshold, those with the smaller index are selected.
// Time:   O(n) expected, whatever the values. A sample of the scores is read first. Then all are read twice, on up to
//         `threads` threads. About once in 400 calls the sample misleads, and they are read three times. A second
//         misleading sample is practically impossible. It would cost three more reads (32 bits) or six (64 bits), on one
//         thread. Scores that hold a NaN are read once more. So are scores if few are kept out of many equal ones.
// Memory: at most n / 8 bytes, 128 KiB for each thread, and 256 KiB. In most cases it is a fraction of that.
// Thread safety: reentrant. The result is a function of the scores alone.
//
// Requires 0 <= k <= n. n may be any number of scores that can be addressed. Throws std::bad_alloc.
std::int64_t select_topk(const void* scores, DType dtype, std::int64_t n, std::int64_t stride, std::int64_t k,
                         bool largest, NanPolicy nan, int threads, std::int64_t* out);

}  // namespace fastprune
