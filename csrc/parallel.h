// Splits a range of independent items over threads.
//
// The threads live for one call: a pool that outlives the call would be dead in a child after
// fork(), and PyTorch's DataLoader forks its workers. Starting a thread costs about 20 us, so
// callers give each one enough work (`min_items`) to hide that.
#pragma once

#include <algorithm>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

namespace fastprune {

// Calls body(begin, end) on disjoint ranges that cover [0, items).
//
// threads    upper bound on the threads used, the calling one included; < 1 means 1.
// min_items  smallest range worth a thread of its own; >= 1.
// body       must not throw, and must give the same result for an item whatever the range.
template <class Body>
void parallel_for(std::int64_t items, int threads, std::int64_t min_items, const Body& body) {
  if (items <= 0) return;
  const std::int64_t parts =
      std::min<std::int64_t>(std::max(threads, 1), std::max<std::int64_t>(items / min_items, 1));
  const std::int64_t size = items / parts, extra = items % parts;
  const auto begin_of = [=](std::int64_t part) { return part * size + std::min(part, extra); };

  std::vector<std::thread> workers;
  workers.reserve(static_cast<std::size_t>(parts - 1));
  std::int64_t part = 1;
  for (; part < parts; ++part) {
    try {
      workers.emplace_back([&body, begin_of, part] { body(begin_of(part), begin_of(part + 1)); });
    } catch (const std::system_error&) {
      break;  // no thread to be had: the caller does the rest itself
    }
  }
  body(begin_of(0), begin_of(1));
  if (part < parts) body(begin_of(part), items);
  for (auto& worker : workers) worker.join();
}

}  // namespace fastprune
