// Selection by two passes. A sample of the scores brackets the k-th largest; the first pass counts the scores
// above the bracket and at its ends and copies the keys inside (a few percent), among which the threshold is
// then found exactly, the same way again; the second writes the indices in order. Unlike a quickselect of the whole,
// both read memory in order and leave the input alone, and ties cost nothing: a bracket that ends in a mass of
// equal scores counts them at its end.
//
// Where so few are kept that all from the bracket's low end on can be copied, with their indices, one pass does.
//
// The sample is as large as makes the copies cheap and few: with s of n sampled, the rank of a quantile q is off
// by sqrt(s q (1 - q)), and a bracket of three times that on either side holds n * 6 sqrt(q (1 - q) / s) keys. If it
// misses, the next one begins where it ended, on the side that the counts name. Should that miss too, or a bracket
// hold too much, the threshold is found digit by digit, from histograms of 11-bit digits of the keys, and
// counted once more.
//
// Bytes: 2 n sizeof(score) read, or n where few are kept, 8 k written, and the copies.
#include "select_topk.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>
#include <type_traits>
#include <vector>

#include "huge_pages.h"
#include "instruction_sets.h"
#include "intrinsics.h"
#include "parallel.h"
#include "select_keys.h"

namespace fastprune {
namespace {

// The passes of select_kernel.h as compiled for one instruction set.
template <class K, class Key = typename K::Key>
struct Passes {
  bool (*write_keys)(const char* block, std::int64_t n, Order<Key> order, Key* out);
  Counts (*count)(const char* block, std::int64_t n, Order<Key> order, Key low, Key high, Key* inside);
  Counts (*collect)(const char* block, std::int64_t n, Order<Key> order, Key low, Key first, Key* keys_out,
                    Key* places_out);
  std::int64_t (*write_indices)(const char* block, std::int64_t n, Order<Key> order, Key threshold,
                                std::int64_t& ties, bool sparse, std::int64_t first, std::int64_t* out,
                                std::int64_t room);
};
template <class Key>
struct KeyPasses {
  Tally (*tally)(const Key* keys, std::int64_t n, Key pivot);
  Threshold<Key> (*kth_largest)(Key* keys, std::int64_t n, std::int64_t k);
};

#define FASTPRUNE_PORTABLE_WIDTH 1
#define FASTPRUNE_KERNELS "select_kernel.h"
#include "each_instruction_set.h"

// `nan`: for scores that may hold one.
template <class K>
Passes<K> passes(bool nan = true) {
#ifdef FASTPRUNE_X86
  switch (instruction_set()) {
    case InstructionSet::kAvx512: return avx512::passes<K>(nan);
    case InstructionSet::kAvx2: return avx2::passes<K>(nan);
    case InstructionSet::kPortable: break;
  }
#endif
  return portable::passes<K>(nan);
}

template <class Key>
KeyPasses<Key> key_passes() {
#ifdef FASTPRUNE_X86
  switch (instruction_set()) {
    case InstructionSet::kAvx512: return avx512::key_passes<Key>();
    case InstructionSet::kAvx2: return avx2::key_passes<Key>();
    case InstructionSet::kPortable: break;
  }
#endif
  return portable::key_passes<Key>();
}

constexpr std::int64_t kBlock = 512;            // scores in a block, which a pass works on at once
constexpr std::int64_t kChunk = 4096;           // keys in a chunk, the piece that a pool of copies is given out in
constexpr std::int64_t kFew = 4096;            // up to here all are copied, without a sample
constexpr std::int64_t kScoresPerPart = 32768;  // fewest that are worth a thread

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

// The k-th largest key, digit by digit from the top. 1 <= k <= n.
template <class Source>
typename Source::Key kth_by_digits(const Source& source, std::int64_t k) {
  using Key = typename Source::Key;
  using Bits = std::make_unsigned_t<Key>;
  constexpr int kDigit = 11, kBins = 1 << kDigit;
  constexpr Bits kSign = Bits(1) << (8 * sizeof(Key) - 1);
  const auto write_keys = passes<typename Source::K>().write_keys;
  std::vector<std::int64_t> count(2 * kBins);
  Bits prefix = 0, known = 0;  // the bits found so far, and a mask of them
  for (int top = 8 * sizeof(Key); top > 0;) {
    const int shift = std::max(top - kDigit, 0);
    const Bits digit_mask = static_cast<Bits>((Bits(1) << (top - shift)) - 1);
    std::fill(count.begin(), count.end(), 0);
    source.for_each_block(0, source.n, [&](const char* block, std::int64_t, std::int64_t size) {
      Key keys[kBlock + kRegister];
      write_keys(block, size, source.order, keys);
      // Two histograms in turn: equal neighbours do not wait for each other's counter.
      for (std::int64_t i = 0; i < size; ++i) {
        const Bits bits = static_cast<Bits>(keys[i]) ^ kSign;
        if ((bits & known) == prefix) ++count[2 * ((bits >> shift) & digit_mask) + (i & 1)];
      }
      return true;
    });
    Bits digit = digit_mask;
    for (;; --digit) {
      const std::int64_t here = count[2 * digit] + count[2 * digit + 1];
      if (k <= here) break;
      k -= here;
    }
    prefix |= static_cast<Bits>(digit << shift);
    known |= static_cast<Bits>(digit_mask << shift);
    top = shift;
  }
  return static_cast<Key>(prefix ^ kSign);
}

template <class Key>
struct Bracket {
  Key low = kLowest<Key>, high = kHighest<Key>;
  std::int64_t inside = 0, from_low = 0;  // keys to expect in it, and in it or above
};

// One key out of each of `size` equal stretches, at a place that no period of the scores meets.
template <class Source>
Buffer<typename Source::Key> sample(const Source& source, std::int64_t size) {
  auto keys = buffer_of<typename Source::Key>(size + kRegister);
  const double stretch = static_cast<double>(source.n) / static_cast<double>(size);
  std::uint64_t state = 0x9e3779b97f4a7c15u;
  for (std::int64_t i = 0; i < size; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const double place = (static_cast<double>(i) + static_cast<double>(state >> 40) * 0x1p-24) * stretch;
    keys[i] = source.key_at(std::min(static_cast<std::int64_t>(place), source.n - 1));
  }
  return keys;
}

// The keys of a sample between which the k-th largest should lie: those `from` and `to` deviations behind the
// rank that it has in the mean. `memory`: bytes that copies may take.
template <class Source>
Bracket<typename Source::Key> bracket(const Source& source, std::int64_t k, std::int64_t memory, double from,
                                      double to) {
  using Key = typename Source::Key;
  const double n = static_cast<double>(source.n), share = static_cast<double>(k) / n;
  const double deviation = std::sqrt(share * (1.0 - share));
  // Where sampling and what becomes of the copies cost least together: a sampled key takes some 7 ns, a copied
  // one 1 or 2.
  const double quick = std::pow(0.6 * deviation * n, 2.0 / 3.0);
  // The copies of (to - from) deviations, and a third more for what stays free in the chunks.
  const double slim = 1.3 * (to - from) * deviation * n * sizeof(Key) / static_cast<double>(memory);
  const auto size = static_cast<std::int64_t>(std::min(std::max({quick, slim * slim, 256.0}), n / 4.0));
  const auto keys = sample(source, size);
  const double s = static_cast<double>(size), spread = std::sqrt(s) * deviation + 1.0;
  const auto first = static_cast<std::int64_t>(std::floor(share * s + from * spread));
  const auto last = static_cast<std::int64_t>(std::ceil(share * s + to * spread));
  Bracket<Key> result;
  const auto kth_largest = key_passes<Key>().kth_largest;
  if (first >= 1) {
    const auto copy = buffer_of<Key>(size + kRegister);
    std::copy_n(keys.get(), size, copy.get());
    result.high = kth_largest(copy.get(), size, std::min(first, size)).key;
  }
  if (last <= size) result.low = kth_largest(keys.get(), size, std::max<std::int64_t>(last, 1)).key;
  const auto expected = [&](std::int64_t ranks) {
    return std::max<std::int64_t>(static_cast<std::int64_t>(static_cast<double>(ranks + 1) * n / s), 0);
  };
  result.inside = expected(std::min(last, size) - std::max<std::int64_t>(first, 0));
  result.from_low = expected(std::min(last, size));
  return result;
}

// A range of the scores, which one thread works on.
struct Part {
  std::int64_t begin, end;
  Counts counts;
  bool overflow = false;
  std::int64_t size = 0, ties = 0, first_out = 0;  // what of it is selected, `ties` of that equal to the threshold
};

std::vector<Part> parts_of(std::int64_t n, int threads) {
  const std::int64_t count = std::min<std::int64_t>(std::max(threads, 1), std::max<std::int64_t>(n / kScoresPerPart, 1));
  std::vector<Part> parts(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i)
    parts[i] = {n / count * i + std::min(i, n % count), n / count * (i + 1) + std::min(i + 1, n % count), {}};
  return parts;
}

template <class Body>
void for_each_part(std::vector<Part>& parts, const Body& body) {
  parallel_for(parts.size(), static_cast<int>(parts.size()), 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) body(parts[i], i);
  });
}

// Chunks that hold so many keys of so many parts, and an eighth more.
std::int64_t chunks_for(std::int64_t keys, std::size_t parts) {
  return (keys + keys / 8 + 2 * kBlock) / (kChunk - kBlock) + 1 + static_cast<std::int64_t>(parts);
}

// Counts by the bracket, in every part, and copies what is inside it to the pool.
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

enum class Hit { kInside, kAbove, kBelow, kTooMuch };

// Finds the threshold, with what is above it and equal to it in every part, if it lies in the bracket.
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

// Bytes that copies of n keys may take.
template <class Key>
std::int64_t memory_for(std::int64_t n, std::size_t parts) {
  return n / 10 + static_cast<std::int64_t>(parts) * 4 * kChunk * static_cast<std::int64_t>(sizeof(Key));
}

// Finds the threshold and what each part has of it, beginning with the bracket `tried`. Returns false, with nothing
// found, if there is a NaN and the source was said to have none.
template <class Source, class Key = typename Source::Key>
bool split(const Source& source, std::int64_t k, Bracket<Key> tried, std::vector<Part>& parts, Key& threshold) {
  const std::int64_t memory = memory_for<Key>(source.n, parts.size());
  for (bool again = false;; again = true) {
    Pool<Key> pool(chunks_for(tried.inside, parts.size()));
    const Counts all = count_parts(source, tried, parts, pool);
    if (all.nan && !source.nan) return false;
    const Hit hit = find_threshold(all, tried, k, pool, parts, threshold);
    if (hit == Hit::kInside) return true;
    if (again || hit == Hit::kTooMuch) {
      tried.low = tried.high = kth_by_digits(source, k);
      tried.inside = 0;
    } else {
      tried = hit == Hit::kAbove ? bracket(source, k, memory, -9.0, -3.0) : bracket(source, k, memory, 3.0, 9.0);
    }
  }
}

// The k-th largest key. 1 <= k <= n.
template <class Source>
typename Source::Key kth_largest(const Source& source, std::int64_t k) {
  using Key = typename Source::Key;
  if (source.n <= kFew) return key_passes<Key>().kth_largest(all_keys(source).get(), source.n, k).key;
  std::vector<Part> one{{0, source.n, {}}};
  Key threshold;
  split(source, k, bracket(source, k, memory_for<Key>(source.n, 1), -3.0, 3.0), one, threshold);
  return threshold;
}

template <class K>
std::int64_t first_nan(const Scores<K>& scores) {
  using Key = typename K::Key;
  const auto write_keys = passes<K>().write_keys;
  std::int64_t found = -1;
  if (!K::kIsFloat) return found;
  scores.for_each_block(0, scores.n, [&](const char* block, std::int64_t first, std::int64_t size) {
    Key keys[kBlock + kRegister];
    if (write_keys(block, size, scores.order, keys))
      found = first + (std::find(keys, keys + size, scores.order.nan) - keys);
    return found < 0;
  });
  return found;
}

// Writes the indices of [begin, end) that the threshold selects, `size` in all.
template <class K>
void write(const Scores<K>& scores, std::int64_t begin, std::int64_t end, typename K::Key threshold,
           std::int64_t ties, std::int64_t* out, std::int64_t size) {
  const auto write_indices = passes<K>(scores.nan).write_indices;
  const bool sparse = size < (end - begin) / 50;
  std::int64_t written = 0;
  scores.for_each_block(begin, end, [&](const char* block, std::int64_t first, std::int64_t n) {
    written += write_indices(block, n, scores.order, threshold, ties, sparse, first, out + written, size - written);
    return written < size;
  });
}

// Few enough scores that all keys are copied. 1 <= k < n. Returns false if there is a NaN and `refuse`.
template <class K>
bool select_few(const Scores<K>& scores, std::int64_t k, bool refuse, std::int64_t* out) {
  bool nan = false;
  const auto keys = all_keys(scores, &nan);
  if (refuse && nan) return false;
  const auto [threshold, ties] = key_passes<typename K::Key>().kth_largest(keys.get(), scores.n, k);
  write(scores, 0, scores.n, threshold, ties, out, k);
  return true;
}

enum class Outcome { kDone, kNan, kFailed };

// One pass that copies everything from `low` on, of which the k are selected. Fails if that is less than k, or more
// than the pool holds.
template <class K, class Key = typename K::Key>
Outcome select_copied(const Scores<K>& scores, std::int64_t k, const Bracket<Key>& bracket, std::vector<Part>& parts,
                      std::int64_t* out) {
  const auto collect = passes<K>(scores.nan).collect;
  Pool<Key> pool(chunks_for(bracket.from_low, parts.size()), true);
  for_each_part(parts, [&](Part& part, std::int64_t number) {
    std::int64_t chunk = -1;
    scores.for_each_block(part.begin, part.end, [&](const char* block, std::int64_t first, std::int64_t size) {
      Key* const room = pool.room(chunk, number);
      part.overflow = room == nullptr;
      if (part.overflow) return false;
      const auto place = static_cast<Key>(first - part.begin);
      const Counts counts = collect(block, size, scores.order, bracket.low, place, room, pool.place_of(room));
      pool.add(chunk, counts.inside);
      part.counts += counts;
      return true;
    });
  });
  pool.close();
  for (const Part& part : parts) {
    if (part.counts.nan && !scores.nan) return Outcome::kNan;
    if (part.overflow) return Outcome::kFailed;
  }
  if (pool.n < k) return Outcome::kFailed;

  const Key threshold = kth_largest(pool, k);
  std::int64_t ties = k;
  const auto tally = key_passes<Key>().tally;
  pool.for_each_chunk([&](std::int64_t, const Key* keys, std::int64_t size) {
    ties -= tally(keys, size, threshold).above;
  });
  std::int64_t written = 0;
  for (std::int64_t number = 0; number < static_cast<std::int64_t>(parts.size()); ++number)
    pool.for_each_chunk([&](std::int64_t part, const Key* keys, std::int64_t size) {
      if (part != number) return;
      const Key* const places = pool.place_of(keys);
      // Branch-free: the index is always written, and kept by moving on.
      for (std::int64_t i = 0; i < size && written < k; ++i) {
        const bool tie = keys[i] == threshold && ties > 0;
        ties -= tie;
        out[written] = parts[number].begin + places[i];
        written += keys[i] > threshold || tie;
      }
    });
  return Outcome::kDone;
}

// 1 <= k < n. Returns false, with nothing found, if there is a NaN and the scores were said to have none.
template <class K>
bool select_many(const Scores<K>& scores, std::int64_t k, int threads, std::int64_t* out) {
  using Key = typename K::Key;
  std::vector<Part> parts = parts_of(scores.n, threads);
  const std::int64_t memory = memory_for<Key>(scores.n, parts.size());
  const auto first_try = bracket(scores, k, memory, -3.0, 3.0);
  const std::int64_t copies = 5 * first_try.from_low / 4 * 2 * static_cast<std::int64_t>(sizeof(Key));
  if (copies <= memory && scores.n <= kHighest<std::int32_t>) {
    const Outcome outcome = select_copied(scores, k, first_try, parts, out);
    if (outcome != Outcome::kFailed) return outcome == Outcome::kDone;
  }
  Key threshold;
  if (!split(scores, k, first_try, parts, threshold)) return false;
  std::int64_t ties = k, written = 0;
  for (const Part& part : parts) ties -= part.size;
  for (Part& part : parts) {
    part.ties = std::min(part.ties, ties);
    ties -= part.ties;
    part.size += part.ties;
    part.first_out = written;
    written += part.size;
  }
  for_each_part(parts, [&](const Part& part, std::int64_t) {
    write(scores, part.begin, part.end, threshold, part.ties, out + part.first_out, part.size);
  });
  return true;
}

template <class K>
std::int64_t select(Scores<K> scores, std::int64_t k, bool refuse_nan, int threads, std::int64_t* out) {
  if (k == 0 || k == scores.n) {
    std::iota(out, out + k, std::int64_t{0});
    return refuse_nan ? first_nan(scores) : -1;
  }
  if (scores.n <= kFew) return select_few(scores, k, refuse_nan, out) ? -1 : first_nan(scores);
  scores.nan = false;
  if (select_many(scores, k, threads, out)) return -1;
  if (refuse_nan) return first_nan(scores);
  scores.nan = true;
  select_many(scores, k, threads, out);
  return -1;
}

}  // namespace

std::int64_t select_topk(const void* scores, DType dtype, std::int64_t n, std::int64_t stride, std::int64_t k,
                         bool largest, NanPolicy nan, int threads, std::int64_t* out) {
  prefer_huge_pages(out, static_cast<std::size_t>(k) * sizeof *out);
  const auto as = [&](auto kind, bool is_unsigned = false) {
    using K = decltype(kind);
    using Key = typename K::Key;
    const Key flip = static_cast<Key>((largest ? 0 : -1) ^ (is_unsigned ? kLowest<Key> : 0));
    const Order<Key> order{flip, nan == NanPolicy::kFirst ? kHighest<Key> : kLowest<Key>};
    return select(Scores<K>{static_cast<const char*>(scores), n, stride, order, true}, k, nan == NanPolicy::kRaise,
                  threads, out);
  };
  switch (dtype) {
    case DType::kFloat16: return as(Float16{});
    case DType::kBFloat16: return as(BrainFloat16{});
    case DType::kFloat32: return as(Float32{});
    case DType::kFloat64: return as(Float64{});
    case DType::kInt8: return as(Int8{});
    case DType::kUInt8: return as(UInt8{});
    case DType::kInt16: return as(Int16{});
    case DType::kUInt16: return as(UInt16{});
    case DType::kInt32: return as(Int32{});
    case DType::kUInt32: return as(Int32{}, true);
    case DType::kInt64: return as(Int64{});
    case DType::kUInt64: break;
  }
  return as(Int64{}, true);
}

}  // namespace fastprune
