#include "platform/parallel.h"

#include <atomic>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <dlfcn.h>
#include <pthread.h>
#define FASTPRUNE_HAS_DLSYM
#endif

namespace fastprune {
namespace {

struct Parts {
  std::int64_t count;
  void (*run)(void* job, std::int64_t part);
  void* job;
  std::atomic<std::int64_t> next{0};
};

// Each thread takes the next part until none is left, because a runtime may give fewer threads than were asked for.
void work(void* context) {
  Parts& parts = *static_cast<Parts*>(context);
  for (std::int64_t part; (part = parts.next.fetch_add(1, std::memory_order_relaxed)) < parts.count;)
    parts.run(parts.job, part);
}

// GCC's interface to OpenMP, which LLVM's and Intel's runtimes have as well.
using OpenMp = void (*)(void (*work)(void*), void* context, unsigned threads, unsigned flags);

#ifdef FASTPRUNE_HAS_DLSYM

std::atomic<bool> forked{false};

// Registered when the library is loaded: the process may use PyTorch's threads and fork before it calls us.
[[maybe_unused]] const int kWatching =
    pthread_atfork(nullptr, nullptr, [] { forked.store(true, std::memory_order_relaxed); });

OpenMp openmp() {
  // PyTorch has put its runtime into the global scope. We link none, so that no second one is loaded.
  static const auto found = reinterpret_cast<OpenMp>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  return forked.load(std::memory_order_relaxed) ? nullptr : found;
}

#else

OpenMp openmp() { return nullptr; }

#endif

}  // namespace

void run_parts(std::int64_t count, void (*run)(void* job, std::int64_t part), void* job) {
  Parts parts{count, run, job};
  if (const OpenMp parallel = openmp()) {
    parallel(work, &parts, static_cast<unsigned>(count), 0);
    return;
  }
  std::vector<std::thread> workers;
  workers.reserve(static_cast<std::size_t>(count - 1));
  try {
    while (static_cast<std::int64_t>(workers.size()) + 1 < count) workers.emplace_back(work, &parts);
  } catch (const std::system_error&) {
    // The system gives no more threads. Those that run do the rest.
  }
  work(&parts);
  for (auto& worker : workers) worker.join();
}

}  // namespace fastprune
