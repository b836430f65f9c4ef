// Scores in memory, with any stride and alignment, as a source of keys.
//
// A source of keys is a class with
//   K, Key                           the kind of scores, and the type of their keys
//   n, order, nan                    how many there are, their order, and whether one may be NaN
//   key_at(i)                        one key
//   for_each_block(begin, end, body) blocks of at most kBlock scores side by side, in order
// There are two: Scores here, and Pool in selection/key_pool.h.
//
// Only select_topk.cpp includes this file, through other headers of this folder. So its namespace has no name.
//
// Memory: a block on the stack where the scores do not lie side by side.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "selection/passes.h"

namespace fastprune {
namespace {

template <class KindOfScore>
struct Scores {
  using K = KindOfScore;
  using Key = typename K::Key;
  const char* data;  // the first score
  std::int64_t n, stride;  // stride in bytes
  Order<Key> order;
  bool nan;  // whether a score may be NaN

  Key key_at(std::int64_t i) const {
    Key key;
    portable::write_keys<K>(data + i * stride, 1, order, &key);
    return key;
  }

  // Calls body(block, first, size) for the scores [first, first + size) of each block of [begin, end). Stops when body
  // returns false.
  template <class Body>
  void for_each_block(std::int64_t begin, std::int64_t end, const Body& body) const {
    if (stride == K::kSize) {
      for (std::int64_t i = begin; i < end; i += kBlock)
        if (!body(data + i * stride, i, std::min(kBlock, end - i))) return;
      return;
    }
    char block[kBlock * K::kSize];
    for (std::int64_t i = begin; i < end; i += kBlock) {
      const std::int64_t size = std::min(kBlock, end - i);
      for (std::int64_t j = 0; j < size; ++j) std::memcpy(block + j * K::kSize, data + (i + j) * stride, K::kSize);
      if (!body(block, i, size)) return;
    }
  }
};

}  // namespace
}  // namespace fastprune
