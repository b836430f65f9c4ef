// Ranges of the scores, one for each thread.
//
// Only select_topk.cpp includes this file, through other headers of this folder. So its namespace has no name.
//
// Memory: a few words for each thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "platform/parallel.h"
#include "selection/passes.h"

namespace fastprune {
namespace {

constexpr std::int64_t kScoresPerPart = 32768;  // the fewest that are worth a thread

// A range of the scores, and what of it is selected.
struct Part {
  std::int64_t begin, end;
  Counts counts;
  bool overflow = false;            // whether its copies found no room
  std::int64_t size = 0, ties = 0;  // how many are selected, and how many equal the threshold
  std::int64_t first_out = 0;       // where its indices go
};

// n scores in ranges of about the same size.
inline std::vector<Part> parts_of(std::int64_t n, int threads) {
  const std::int64_t worth = std::max<std::int64_t>(n / kScoresPerPart, 1);
  const std::int64_t count = std::min<std::int64_t>(std::max(threads, 1), worth);
  std::vector<Part> parts(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i)
    parts[i] = {n / count * i + std::min(i, n % count), n / count * (i + 1) + std::min(i + 1, n % count), {}};
  return parts;
}

// Calls body(part, number) for all parts at the same time.
template <class Body>
void for_each_part(std::vector<Part>& parts, const Body& body) {
  parallel_for(parts.size(), static_cast<int>(parts.size()), 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) body(parts[i], i);
  });
}

}  // namespace
}  // namespace fastprune
