// Selection in two passes. The first finds the threshold (selection/threshold.h), and the second writes the indices in
// order. If few are kept, the first pass is enough: it copies all keys from the bracket's low end on, with their
// indices.
//
// Bytes: 2 n sizeof(score) read, or n sizeof(score) if few are kept. 8 k written, and the copies.
#include "selection/select_topk.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "platform/huge_pages.h"
#include "selection/key_buffer.h"
#include "selection/threshold.h"

namespace fastprune {
namespace {

constexpr std::int64_t kFew = 4096;  // up to here all keys are copied

// The position of the first NaN, or -1.
template <class K>
std::int64_t first_nan(const Scores<K>& scores) {
  using Key = typename K::Key;
  const auto write_keys = passes<K>().write_keys;
  std::int64_t found = -1;
  if (!K::kIsFloat) return found;
  scores.for_each_block(0, scores.n, [&](const char* block, std::int64_t first, std::int64_t size) {
    Key keys[kBlock + kMostLanes];
    if (write_keys(block, size, scores.order, keys))
      found = first + (std::find(keys, keys + size, scores.order.nan) - keys);
    return found < 0;
  });
  return found;
}

// Writes the indices of [begin, end) that the threshold selects. There are `size` of them.
template <class K>
void write(const Scores<K>& scores, std::int64_t begin, std::int64_t end, typename K::Key threshold,
           std::int64_t ties, std::int64_t* out, std::int64_t size) {
  const auto write_indices = passes<K>(scores.nan).write_indices;
  const bool sparse = size < (end - begin) / 40;
  std::int64_t written = 0;
  scores.for_each_block(begin, end, [&](const char* block, std::int64_t first, std::int64_t n) {
    written += write_indices(block, n, scores.order, threshold, ties, sparse, first, out + written, size - written);
    return written < size;
  });
}

// Selects among few scores, with a copy of all keys. 1 <= k < n. Returns false if a score is NaN and `refuse` is set.
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

// Selects in one pass, which copies all keys from bracket.low on, and then among the copies. Fails if these are fewer
// than k, or more than the pool holds.
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
      // Without branches: the index is always written. It stays if `written` moves on.
      for (std::int64_t i = 0; i < size && written < k; ++i) {
        const bool tie = keys[i] == threshold && ties > 0;
        ties -= tie;
        out[written] = parts[number].begin + places[i];
        written += keys[i] > threshold || tie;
      }
    });
  return Outcome::kDone;
}

// Selects among many scores. 1 <= k < n. Returns false, and selects nothing, if a score is NaN although scores.nan says
// that none is.
template <class K>
bool select_many(const Scores<K>& scores, std::int64_t k, int threads, std::int64_t* out) {
  using Key = typename K::Key;
  std::vector<Part> parts = parts_of(scores.n, threads);
  const std::int64_t memory = memory_for(scores.n, parts.size());
  const auto first_try = bracket(scores, k, memory, -3.0, 3.0);
  const std::int64_t copies =
      chunks_for(first_try.from_low, parts.size()) * kChunk * 2 * static_cast<std::int64_t>(sizeof(Key));
  constexpr std::int64_t most = std::int64_t{1} << 30;  // 32-bit keys come with 32-bit places
  // With more than a twentieth of the scores, copies take longer than a second pass.
  const bool few = first_try.from_low <= scores.n / 20;
  if (few && copies <= memory + (64 << 10) && scores.n <= most) {
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

// select_topk for one kind of scores.
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
