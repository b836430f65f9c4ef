// The k-th largest key of a source, digit by digit.
//
// It reads the source three times for 32-bit keys and six times for 64-bit keys, on one thread, whatever the keys are.
// The search by brackets (selection/threshold.h) is faster and falls back on this one.
//
// Only select_topk.cpp includes this file, through other headers of this folder. So its namespace has no name.
//
// Memory: 32 KiB for a histogram of 11-bit digits, and a block of keys on the stack.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "selection/passes.h"

namespace fastprune {
namespace {

// The k-th largest key, from its highest digit down. 1 <= k <= n.
template <class Source>
typename Source::Key kth_by_digits(const Source& source, std::int64_t k) {
  using Key = typename Source::Key;
  using Bits = std::make_unsigned_t<Key>;
  constexpr int kDigit = 11, kBins = 1 << kDigit;
  constexpr Bits kSign = Bits(1) << (8 * sizeof(Key) - 1);
  const auto write_keys = passes<typename Source::K>().write_keys;
  std::vector<std::int64_t> count(2 * kBins);
  Bits prefix = 0, known = 0;  // the bits found so far, and a mask of them
  for (int top = 8 * sizeof(Key); top > 0;) {
    const int shift = std::max(top - kDigit, 0);
    const Bits digit_mask = static_cast<Bits>((Bits(1) << (top - shift)) - 1);
    std::fill(count.begin(), count.end(), 0);
    source.for_each_block(0, source.n, [&](const char* block, std::int64_t, std::int64_t size) {
      Key keys[kBlock + kMostLanes];
      write_keys(block, size, source.order, keys);
      // Neighbours count in two histograms in turn, so that equal ones do not wait for the same counter.
      for (std::int64_t i = 0; i < size; ++i) {
        const Bits bits = static_cast<Bits>(keys[i]) ^ kSign;
        if ((bits & known) == prefix) ++count[2 * ((bits >> shift) & digit_mask) + (i & 1)];
      }
      return true;
    });
    Bits digit = digit_mask;
    for (;; --digit) {
      const std::int64_t here = count[2 * digit] + count[2 * digit + 1];
      if (k <= here) break;
      k -= here;
    }
    prefix |= static_cast<Bits>(digit << shift);
    known |= static_cast<Bits>(digit_mask << shift);
    top = shift;
  }
  return static_cast<Key>(prefix ^ kSign);
}

}  // namespace
}  // namespace fastprune
