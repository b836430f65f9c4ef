// The k-th largest key. A sample of the keys brackets it; a pass counts the keys above the bracket and at its high
// end and copies those inside (a few percent), among which it is then found exactly, the same way again. Memory is
// read in order and left alone, and ties cost nothing: a bracket that ends in a mass of equal keys counts them at
// its end.
//
// The sample is as large as makes the copies cheap and few: with s of n sampled, the rank of a quantile q is off
// by sqrt(s q (1 - q)), and a bracket of three times that on either side holds n * 6 sqrt(q (1 - q) / s) keys. If it
// misses, the next one begins where it ended, on the side that the counts name. Should that miss too, or a bracket
// hold too much, the threshold is found digit by digit, from histograms of 11-bit digits of the keys, and
// counted once more.
//
// Of select_topk.cpp alone, hence the unnamed namespace.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "platform/parallel.h"
#include "selection/key_pool.h"

namespace fastprune {
namespace {

constexpr std::int64_t kFewKeys = 8192;         // up to here all are copied, without a sample
constexpr std::int64_t kScoresPerPart = 32768;  // fewest that are worth a thread

// The k-th largest key, digit by digit from the top. 1 <= k <= n.
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
      Key keys[kBlock + kRegister];
      write_keys(block, size, source.order, keys);
      // Two histograms in turn: equal neighbours do not wait for each other's counter.
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

template <class Key>
struct Bracket {
  Key low = kLowest<Key>, high = kHighest<Key>;
  std::int64_t inside = 0, from_low = 0;  // keys to expect in it, and in it or above
};

// One key out of each of `size` equal stretches, at a place that no period of the scores meets.
template <class Source>
Buffer<typename Source::Key> sample(const Source& source, std::int64_t size) {
  auto keys = buffer_of<typename Source::Key>(size + kRegister);
  const double stretch = static_cast<double>(source.n) / static_cast<double>(size);
  std::uint64_t state = 0x9e3779b97f4a7c15u;
  for (std::int64_t i = 0; i < size; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const double place = (static_cast<double>(i) + static_cast<double>(state >> 40) * 0x1p-24) * stretch;
    keys[i] = source.key_at(std::min(static_cast<std::int64_t>(place), source.n - 1));
  }
  return keys;
}

// The keys of a sample between which the k-th largest should lie: those `from` and `to` deviations behind the
// rank that it has in the mean. `memory`: bytes that copies may take.
template <class Source>
Bracket<typename Source::Key> bracket(const Source& source, std::int64_t k, std::int64_t memory, double from,
                                      double to) {
  using Key = typename Source::Key;
  const double n = static_cast<double>(source.n), share = static_cast<double>(k) / n;
  const double deviation = std::sqrt(share * (1.0 - share));
  // Where sampling and what becomes of the copies cost least together: a sampled key takes some 7 ns, a copied
  // one 1 or 2.
  const double quick = std::pow(0.6 * deviation * n, 2.0 / 3.0);
  // The copies of (to - from) deviations, and a third more for what stays free in the chunks.
  const double slim = 1.3 * (to - from) * deviation * n * sizeof(Key) / static_cast<double>(memory);
  const auto size = static_cast<std::int64_t>(std::min(std::max({quick, slim * slim, 256.0}), n / 4.0));
  const auto keys = sample(source, size);
  const double s = static_cast<double>(size), spread = std::sqrt(s) * deviation + 1.0;
  const auto first = static_cast<std::int64_t>(std::floor(share * s + from * spread));
  const auto last = static_cast<std::int64_t>(std::ceil(share * s + to * spread));
  Bracket<Key> result;
  const auto kth_largest = key_passes<Key>().kth_largest;
  if (first >= 1) {
    const auto copy = buffer_of<Key>(size + kRegister);
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

// A range of the scores, which one thread works on.
struct Part {
  std::int64_t begin, end;
  Counts counts;
  bool overflow = false;
  std::int64_t size = 0, ties = 0, first_out = 0;  // what of it is selected, `ties` of that equal to the threshold
};

inline std::vector<Part> parts_of(std::int64_t n, int threads) {
  const std::int64_t count = std::min<std::int64_t>(std::max(threads, 1), std::max<std::int64_t>(n / kScoresPerPart, 1));
  std::vector<Part> parts(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i)
    parts[i] = {n / count * i + std::min(i, n % count), n / count * (i + 1) + std::min(i + 1, n % count), {}};
  return parts;
}

template <class Body>
void for_each_part(std::vector<Part>& parts, const Body& body) {
  parallel_for(parts.size(), static_cast<int>(parts.size()), 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) body(parts[i], i);
  });
}

// Chunks that hold so many keys of so many parts, and an eighth more.
inline std::int64_t chunks_for(std::int64_t keys, std::size_t parts) {
  return (keys + keys / 8 + 2 * kBlock) / (kChunk - kBlock) + 1 + static_cast<std::int64_t>(parts);
}

// Counts by the bracket, in every part, and copies what is inside it to the pool.
template <class Source, class Key = typename Source::Key>
Counts count_parts(const Source& source, const Bracket<Key>& bracket, std::vector<Part>& parts, Pool<Key>& pool) {
  const auto count = passes<typename Source::K>(source.nan).count;
  for_each_part(parts, [&](Part& part, std::int64_t number) {
    std::int64_t chunk = -1;
    part.counts = {};
    source.for_each_block(part.begin, part.end, [&](const char* block, std::int64_t, std::int64_t size) {
      Key* const room = pool.room(chunk, number);
      part.overflow = room == nullptr;
      if (part.overflow) return false;
      const Counts counts = count(block, size, source.order, bracket.low, bracket.high, room);
      pool.add(chunk, counts.inside);
      part.counts += counts;
      return true;
    });
  });
  pool.close();
  Counts all;
  for (const Part& part : parts) all += part.counts;
  return all;
}

template <class Source>
typename Source::Key kth_largest(const Source& source, std::int64_t k);

enum class Hit { kInside, kAbove, kBelow, kTooMuch };

// Finds the threshold, with what is above it and equal to it in every part, if it lies in the bracket.
template <class Key>
Hit find_threshold(const Counts& all, const Bracket<Key>& bracket, std::int64_t k, const Pool<Key>& pool,
                   std::vector<Part>& parts, Key& threshold) {
  for (const Part& part : parts)
    if (part.overflow) return Hit::kTooMuch;
  const std::int64_t k_inside = k - all.above - all.at_high;
  if (k <= all.above) return Hit::kAbove;
  if (k_inside > all.inside) return Hit::kBelow;
  threshold = k_inside <= 0 ? bracket.high : kth_largest(pool, k_inside);
  for (Part& part : parts) {
    part.size = part.counts.above + (bracket.high > threshold ? part.counts.at_high : 0);
    part.ties = bracket.high == threshold ? part.counts.at_high : 0;
  }
  if (k_inside <= 0) return Hit::kInside;
  const auto tally = key_passes<Key>().tally;
  pool.for_each_chunk([&](std::int64_t part, const Key* keys, std::int64_t size) {
    const Tally t = tally(keys, size, threshold);
    parts[part].size += t.above;
    parts[part].ties += t.equal;
  });
  return Hit::kInside;
}

// Bytes that copies of n keys may take.
inline std::int64_t memory_for(std::int64_t n, std::size_t parts) {
  return n / 10 + static_cast<std::int64_t>(parts) * (128 << 10);
}

// Finds the threshold and what each part has of it, beginning with the bracket `tried`. Returns false, with nothing
// found, if there is a NaN and the source was said to have none.
template <class Source, class Key = typename Source::Key>
bool split(const Source& source, std::int64_t k, Bracket<Key> tried, std::vector<Part>& parts, Key& threshold) {
  const std::int64_t memory = memory_for(source.n, parts.size());
  for (bool again = false;; again = true) {
    Hit hit;
    {
      Pool<Key> pool(chunks_for(tried.inside, parts.size()));
      const Counts all = count_parts(source, tried, parts, pool);
      if (all.nan && !source.nan) return false;
      hit = find_threshold(all, tried, k, pool, parts, threshold);
    }
    if (hit == Hit::kInside) return true;
    if (again || hit == Hit::kTooMuch) {
      tried.low = tried.high = kth_by_digits(source, k);
      tried.inside = 0;
    } else {
      tried = hit == Hit::kAbove ? bracket(source, k, memory, -9.0, -3.0) : bracket(source, k, memory, 3.0, 9.0);
    }
  }
}

// The k-th largest key. 1 <= k <= n.
template <class Source>
typename Source::Key kth_largest(const Source& source, std::int64_t k) {
  using Key = typename Source::Key;
  if (source.n <= kFewKeys) return key_passes<Key>().kth_largest(all_keys(source).get(), source.n, k).key;
  std::vector<Part> one = parts_of(source.n, 1);
  Key threshold;
  split(source, k, bracket(source, k, memory_for(source.n, 1), -3.0, 3.0), one, threshold);
  return threshold;
}

}  // namespace
}  // namespace fastprune
