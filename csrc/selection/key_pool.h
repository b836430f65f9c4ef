// Where keys come from: scores in memory, or copies of keys. Of select_topk.cpp alone, hence the unnamed namespace.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <type_traits>
#include <vector>

#include "selection/passes.h"

namespace fastprune {
namespace {

constexpr std::int64_t kBlock = 512;   // scores in a block, which a pass works on at once
constexpr std::int64_t kChunk = 4096;  // keys in a chunk, the piece that a pool of copies is given out in

template <class Key>
using Buffer = std::unique_ptr<Key[]>;

template <class Key>
Buffer<Key> buffer_of(std::int64_t size) { return Buffer<Key>(new Key[static_cast<std::size_t>(size)]); }

// Scores in memory, as blocks next to each other.
template <class KindOfScore>
struct Scores {
  using K = KindOfScore;
  using Key = typename K::Key;
  const char* data;
  std::int64_t n, stride;
  Order<Key> order;
  bool nan;  // whether there may be one

  Key key_at(std::int64_t i) const {
    Key key;
    portable::write_keys<K>(data + i * stride, 1, order, &key);
    return key;
  }

  // Calls body(block, first, size) for scores [first, first + size) and so on over [begin, end), until it
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

// Copies of keys in chunks, which threads take one by one.
template <class KeyType>
class Pool {
 public:
  using Key = KeyType;
  using K = std::conditional_t<sizeof(Key) == 8, Int64, Int32>;
  static constexpr Order<Key> order{};
  static constexpr bool nan = false;

  // `places`: whether each key comes with a number that tells where it was.
  explicit Pool(std::int64_t chunks, bool places = false)
      : keys_(buffer_of<Key>(chunks * kChunk)), places_(places ? buffer_of<Key>(chunks * kChunk) : nullptr),
        chunks_(chunks) {}

  // A place for a block's keys, a register's more, in the caller's chunk or a new one; null if there is none left.
  Key* room(std::int64_t& chunk, std::int64_t part) {
    if (chunk < 0 || chunks_[chunk].size + kBlock + kRegister > kChunk) {
      chunk = taken_.fetch_add(1, std::memory_order_relaxed);
      if (chunk >= static_cast<std::int64_t>(chunks_.size())) return nullptr;
      chunks_[chunk].part = part;
    }
    return keys(chunk) + chunks_[chunk].size;
  }
  Key* place_of(const Key* key) { return places_.get() + (key - keys_.get()); }
  void add(std::int64_t chunk, std::int64_t size) { chunks_[chunk].size += size; }

  // Once all is there: where each chunk begins among all keys.
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
  // All of them, whatever the range: copies are not worth several threads.
  template <class Body>
  void for_each_block(std::int64_t, std::int64_t, const Body& body) const {
    for (std::size_t c = 0; c < chunks_.size(); ++c)
      for (std::int64_t i = 0; i < chunks_[c].size; i += kBlock)
        if (!body(reinterpret_cast<const char*>(keys(c) + i), chunks_[c].first + i,
                  std::min(kBlock, chunks_[c].size - i)))
          return;
  }
  // Calls body(part, keys, size) for each chunk; the chunks of a part come in order.
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

template <class Source>
Buffer<typename Source::Key> all_keys(const Source& source, bool* nan = nullptr) {
  using K = typename Source::K;
  const auto write_keys = passes<K>().write_keys;
  auto keys = buffer_of<typename Source::Key>(source.n + kRegister);
  source.for_each_block(0, source.n, [&](const char* block, std::int64_t first, std::int64_t size) {
    if (write_keys(block, size, source.order, keys.get() + first) && nan != nullptr) *nan = true;
    return true;
  });
  return keys;
}

}  // namespace
}  // namespace fastprune
