// Buffers of keys, and a copy of all keys of a source.
//
// Only select_topk.cpp includes this file, through other headers of this folder. So its namespace has no name.
//
// Memory: buffers are not initialized. They come from new, which may throw std::bad_alloc.
#pragma once

#include <cstdint>
#include <memory>

#include "selection/passes.h"

namespace fastprune {
namespace {

template <class Key>
using Buffer = std::unique_ptr<Key[]>;

template <class Key>
Buffer<Key> buffer_of(std::int64_t size) { return Buffer<Key>(new Key[static_cast<std::size_t>(size)]); }

// A copy of all keys of a source (see selection/strided_scores.h), with room for kMostLanes more. O(n). If `nan` is
// given, it becomes true where a score is NaN.
template <class Source>
Buffer<typename Source::Key> all_keys(const Source& source, bool* nan = nullptr) {
  using K = typename Source::K;
  const auto write_keys = passes<K>().write_keys;
  auto keys = buffer_of<typename Source::Key>(source.n + kMostLanes);
  source.for_each_block(0, source.n, [&](const char* block, std::int64_t first, std::int64_t size) {
    if (write_keys(block, size, source.order, keys.get() + first) && nan != nullptr) *nan = true;
    return true;
  });
  return keys;
}

}  // namespace
}  // namespace fastprune
