// Copies of keys that several threads make, in chunks that they take one by one.
//
// A pool is a source of keys, too (see selection/strided_scores.h). Threads may call room() and add() at the same time.
// After close() it is only read.
//
// Only select_topk.cpp includes this file, through other headers of this folder. So its namespace has no name.
//
// Memory: `chunks` times kChunk keys, and as many places if wanted, all taken when the pool is made.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "selection/key_buffer.h"

namespace fastprune {
namespace {

constexpr std::int64_t kChunk = 4096;  // the keys of a chunk

template <class KeyType>
class Pool {
 public:
  using Key = KeyType;
  using K = std::conditional_t<sizeof(Key) == 8, Int64, Int32>;
  static constexpr Order<Key> order{};
  static constexpr bool nan = false;

  // `places` says whether each key comes with a number that tells where it was.
  explicit Pool(std::int64_t chunks, bool places = false)
      : keys_(buffer_of<Key>(chunks * kChunk)), places_(places ? buffer_of<Key>(chunks * kChunk) : nullptr),
        chunks_(chunks) {}

  // Room for a block of keys and kMostLanes more, in the caller's chunk or in a new one. Null if no chunk is left.
  // `chunk` is the caller's own, and begins at -1. `part` says whose keys they are.
  Key* room(std::int64_t& chunk, std::int64_t part) {
    if (chunk < 0 || chunks_[chunk].size + kBlock + kMostLanes > kChunk) {
      chunk = taken_.fetch_add(1, std::memory_order_relaxed);
      if (chunk >= static_cast<std::int64_t>(chunks_.size())) return nullptr;
      chunks_[chunk].part = part;
    }
    return keys(chunk) + chunks_[chunk].size;
  }
  // Where the place of a key is kept.
  Key* place_of(const Key* key) { return places_.get() + (key - keys_.get()); }
  // Keeps `size` keys that the caller has written to the room.
  void add(std::int64_t chunk, std::int64_t size) { chunks_[chunk].size += size; }

  // Once all keys are there: counts them, and finds where each chunk begins among them.
  void close() {
    chunks_.resize(std::min(chunks_.size(), static_cast<std::size_t>(taken_.load())));
    for (Chunk& c : chunks_) {
      c.first = n;
      n += c.size;
    }
  }

  Key key_at(std::int64_t i) const {
    const auto after = std::upper_bound(chunks_.begin(), chunks_.end(), i,
                                        [](std::int64_t at, const Chunk& c) { return at < c.first; });
    const auto chunk = after - chunks_.begin() - 1;
    return keys(chunk)[i - chunks_[chunk].first];
  }
  // All keys, whatever the range: copies are not worth several threads.
  template <class Body>
  void for_each_block(std::int64_t, std::int64_t, const Body& body) const {
    for (std::size_t c = 0; c < chunks_.size(); ++c)
      for (std::int64_t i = 0; i < chunks_[c].size; i += kBlock)
        if (!body(reinterpret_cast<const char*>(keys(c) + i), chunks_[c].first + i,
                  std::min(kBlock, chunks_[c].size - i)))
          return;
  }
  // Calls body(part, keys, size) for each chunk. The chunks of a part come in order.
  template <class Body>
  void for_each_chunk(const Body& body) const {
    for (std::size_t c = 0; c < chunks_.size(); ++c) body(chunks_[c].part, keys(c), chunks_[c].size);
  }

  std::int64_t n = 0;

 private:
  struct Chunk {
    std::int64_t part = 0, size = 0, first = 0;
  };
  Key* keys(std::int64_t chunk) const { return keys_.get() + chunk * kChunk; }

  Buffer<Key> keys_, places_;
  std::vector<Chunk> chunks_;
  std::atomic<std::int64_t> taken_{0};
};

// How many chunks hold `keys` keys of `parts` parts, and an eighth more.
inline std::int64_t chunks_for(std::int64_t keys, std::size_t parts) {
  return (keys + keys / 8 + 2 * kBlock) / (kChunk - kBlock) + 1 + static_cast<std::int64_t>(parts);
}

}  // namespace
}  // namespace fastprune
