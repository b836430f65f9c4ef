// A bracket of keys in which the k-th largest should lie, from a sample.
//
// With s of n keys sampled, the rank of a quantile q is off by sqrt(s q (1 - q)). A bracket of three times that on
// either side holds n * 6 sqrt(q (1 - q) / s) keys. The sample has the size at which the sample and the copies of these
// keys cost least together. The sample is the same for the same n, k and memory, so a selection depends on the scores
// alone.
//
// Only select_topk.cpp includes this file, through other headers of this folder. So its namespace has no name.
//
// Memory: two copies of the sample, which has at most n / 4 keys.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "selection/key_buffer.h"

namespace fastprune {
namespace {

template <class Key>
struct Bracket {
  Key low = kLowest<Key>, high = kHighest<Key>;
  std::int64_t inside = 0;    // how many keys to expect in the bracket
  std::int64_t from_low = 0;  // and how many in it or above
};

// One key out of each of `size` equal stretches. Its place in the stretch looks random, so a period in the scores does
// no harm.
template <class Source>
Buffer<typename Source::Key> sample(const Source& source, std::int64_t size) {
  auto keys = buffer_of<typename Source::Key>(size + kMostLanes);
  const double stretch = static_cast<double>(source.n) / static_cast<double>(size);
  std::uint64_t state = 0x9e3779b97f4a7c15u;
  for (std::int64_t i = 0; i < size; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const double place = (static_cast<double>(i) + static_cast<double>(state >> 40) * 0x1p-24) * stretch;
    keys[i] = source.key_at(std::min(static_cast<std::int64_t>(place), source.n - 1));
  }
  return keys;
}

// The bracket [low, high] from a sample of the source. The k-th largest key has a mean rank in the sample, and the ends
// are the sampled keys `from` and `to` standard deviations after that rank. `memory` is the bytes that copies may take.
template <class Source>
Bracket<typename Source::Key> bracket(const Source& source, std::int64_t k, std::int64_t memory, double from,
                                      double to) {
  using Key = typename Source::Key;
  const double n = static_cast<double>(source.n), share = static_cast<double>(k) / n;
  const double deviation = std::sqrt(share * (1.0 - share));
  // Here the sample and the copies together take the least time: some 7 ns for a sampled key, and 1 or 2 for a copied
  // one.
  const double quick = std::pow(0.6 * deviation * n, 2.0 / 3.0);
  // Here the copies of (to - from) deviations fit the memory, with a third more for what stays free in the chunks.
  const double slim = 1.3 * (to - from) * deviation * n * sizeof(Key) / static_cast<double>(memory);
  const auto size = static_cast<std::int64_t>(std::min(std::max({quick, slim * slim, 256.0}), n / 4.0));
  const auto keys = sample(source, size);
  const double s = static_cast<double>(size), spread = std::sqrt(s) * deviation + 1.0;
  const auto first = static_cast<std::int64_t>(std::floor(share * s + from * spread));
  const auto last = static_cast<std::int64_t>(std::ceil(share * s + to * spread));
  Bracket<Key> result;
  const auto kth_largest = key_passes<Key>().kth_largest;
  if (first >= 1) {
    const auto copy = buffer_of<Key>(size + kMostLanes);
    std::copy_n(keys.get(), size, copy.get());
    result.high = kth_largest(copy.get(), size, std::min(first, size)).key;
  }
  if (last <= size) result.low = kth_largest(keys.get(), size, std::max<std::int64_t>(last, 1)).key;
  const auto expected = [&](std::int64_t ranks) {
    return std::max<std::int64_t>(static_cast<std::int64_t>(static_cast<double>(ranks + 1) * n / s), 0);
  };
  result.inside = expected(std::min(last, size) - std::max<std::int64_t>(first, 0));
  result.from_low = expected(std::min(last, size));
  return result;
}

// How many bytes the copies of a selection among n keys may take.
inline std::int64_t memory_for(std::int64_t n, std::size_t parts) {
  return n / 10 + static_cast<std::int64_t>(parts) * (128 << 10);
}

}  // namespace
}  // namespace fastprune
