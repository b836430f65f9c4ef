// The threshold of a selection: the k-th largest key.
//
// A sample brackets it (selection/bracket.h). A pass counts the keys above the bracket and at its high end, and copies
// those strictly inside, a few percent. Among the copies the threshold is then found exactly, in the same way. The
// scores are read in order and are not written. Ties cost nothing: a bracket that ends in a mass of equal keys counts
// them.
//
// If the bracket misses, the next one begins where it ended, on the side that the counts name. If that misses, too, or
// if a bracket holds too many keys, the threshold is found digit by digit (selection/digit_search.h) and counted once
// more.
//
// Only select_topk.cpp includes this file, through other headers of this folder. So its namespace has no name.
//
// Time: O(n) expected, whatever the keys. Memory: see memory_for.
#pragma once

#include <cstdint>
#include <vector>

#include "selection/bracket.h"
#include "selection/digit_search.h"
#include "selection/key_pool.h"
#include "selection/parts.h"
#include "selection/strided_scores.h"

namespace fastprune {
namespace {

constexpr std::int64_t kFewKeys = 8192;  // up to here all keys are copied, without a sample

// Counts every part's keys by the bracket, and copies those strictly inside it to the pool. Returns the sums.
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

// Where the threshold lies. kTooMuch: the pool was too small to tell.
enum class Hit { kInside, kAbove, kBelow, kTooMuch };

// Finds the threshold if it lies in the bracket. Then every part gets the numbers of its keys above it and equal to it.
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

// Finds the threshold, and the numbers of keys above it and equal to it in every part. The first bracket is `tried`.
// Returns false, and finds nothing, if a score is NaN although source.nan says that none is.
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

// The k-th largest key of a source, on one thread. 1 <= k <= n.
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
