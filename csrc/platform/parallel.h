// Splits a range of independent items over threads.
#pragma once

#include <algorithm>
#include <cstdint>

namespace fastprune {

// Calls run(job, part) for every part in [0, parts), on up to `parts` threads. `run` must not throw.
//
// The threads are those of the OpenMP runtime that is loaded, which with PyTorch is PyTorch's own: after an
// operator of PyTorch they still wait in a loop for the next one, ready at once and in the way of any
// others. Where there is no such runtime, or in a child after fork(), in which its threads are dead,
// they live for one call; starting one takes about 20 us.
void run_parts(std::int64_t parts, void (*run)(void* job, std::int64_t part), void* job);

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
  if (parts == 1) return body(0, items);

  struct Job {
    const Body& body;
    std::int64_t size, extra;
    std::int64_t begin_of(std::int64_t part) const { return part * size + std::min(part, extra); }
  } job{body, items / parts, items % parts};
  run_parts(
      parts,
      [](void* context, std::int64_t part) {
        const Job& own = *static_cast<const Job*>(context);
        own.body(own.begin_of(part), own.begin_of(part + 1));
      },
      &job);
}

}  // namespace fastprune
