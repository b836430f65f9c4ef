// Splits a range of independent items over threads.
//
// An ordinary header. Memory: a few words, and none from the heap where an OpenMP runtime is loaded.
#pragma once

#include <algorithm>
#include <cstdint>

namespace fastprune {

// Calls run(job, part) for every part in [0, parts), on up to `parts` threads. `run` must not throw.
//
// Which threads: those of the OpenMP runtime that the process has loaded. With PyTorch that is PyTorch's own. After an
// operator of PyTorch its threads wait in a loop for the next one. So they are ready at once, and threads of ours
// would compete with them.
//
// If no such runtime is loaded, the threads live for one call, and starting one takes about 20 us. The same holds in a
// child after fork(), where the runtime's threads are dead.
void run_parts(std::int64_t parts, void (*run)(void* job, std::int64_t part), void* job);

// Calls body(begin, end) on disjoint ranges that cover [0, items).
//
// threads    upper bound on the threads used, the calling one included. Less than 1 means 1.
// min_items  the smallest range that is worth a thread of its own. At least 1.
// body       must not throw. What it does with an item must not depend on the range.
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
