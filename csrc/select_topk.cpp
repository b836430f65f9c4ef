// Floats that lie next to each other take the fast way, everything else the digits.
//
// The fast way reads the scores twice. A sample of them brackets the k-th largest score; the first pass
// counts the scores above the bracket and at its ends and copies those inside (a few percent), among which
// the threshold is then found exactly, the same way again; the second writes the indices in order. Should
// the bracket miss, or hold too much because of ties inside it, the digits decide. The sample is a function
// of n alone and the result one of the scores alone.
//
// The digits: a score is mapped to an unsigned key of the same order; the key of the k-th selected score is
// found digit by digit from the top with histograms of 11-bit digits, and one more pass writes the
// indices in order. Unlike a quickselect both read memory in order and leave the input alone.
//
// Bytes: 8 n read and 8 k written the fast way, at most n / 4 of copies; by digits at most
// (ceil(bits / 11) + 1) * n * sizeof(element) read and 8 k written.
#include "select_topk.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <type_traits>
#include <vector>

#if defined(__x86_64__) && defined(__GNUC__)
#ifndef __clang__
// GCC 12 takes the undefined vectors of its own intrinsics for mistakes (its bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#endif

#include "huge_pages.h"
#include "instruction_sets.h"
#include "parallel.h"

namespace fastprune {
namespace {

constexpr int kDigitBits = 11;
constexpr int kBins = 1 << kDigitBits;

// Keys: the unsigned integer whose order is the score's.
// Floats: flip all bits of negatives and the sign of the rest, -0.0 taken as 0.0.
template <class Bits>
inline Bits float_key(Bits bits) {
  const Bits sign = Bits(1) << (sizeof(Bits) * 8 - 1);
  if (bits == sign) bits = 0;
  return bits & sign ? static_cast<Bits>(~bits) : static_cast<Bits>(bits | sign);
}
inline std::uint16_t key_of(Half x) { return float_key(x.bits); }
inline std::uint16_t key_of(BFloat16 x) { return float_key(x.bits); }
inline std::uint32_t key_of(float x) { return float_key(bit_cast<std::uint32_t>(x)); }
inline std::uint64_t key_of(double x) { return float_key(bit_cast<std::uint64_t>(x)); }
inline std::uint32_t key_of(std::int32_t x) { return static_cast<std::uint32_t>(x) ^ 0x80000000u; }
inline std::uint64_t key_of(std::int64_t x) {
  return static_cast<std::uint64_t>(x) ^ 0x8000000000000000u;
}

inline bool is_nan(Half x) { return (x.bits & 0x7fffu) > 0x7c00u; }
inline bool is_nan(BFloat16 x) { return (x.bits & 0x7fffu) > 0x7f80u; }
inline bool is_nan(float x) { return x != x; }
inline bool is_nan(double x) { return x != x; }
inline bool is_nan(std::int32_t) { return false; }
inline bool is_nan(std::int64_t) { return false; }

template <class T>
struct Strided {
  const T* data;
  std::int64_t stride;
  T operator[](std::int64_t i) const { return data[i * stride]; }
};

// The scores as keys whose largest are selected.
template <class T>
struct Keys {
  using Key = decltype(key_of(T{}));
  Strided<T> scores;
  Key flip;  // all ones to select the smallest
  Key operator[](std::int64_t i) const { return static_cast<Key>(key_of(scores[i]) ^ flip); }
};

// Where the selection ends: every key above `key`, and the first `ties` of those equal to it.
template <class Key>
struct Threshold {
  Key key;
  std::int64_t ties;
};

// Requires 1 <= k < n.
template <class T>
auto find_threshold(const Keys<T>& keys, std::int64_t n, std::int64_t k) {
  using Key = typename Keys<T>::Key;
  constexpr int kBits = sizeof(Key) * 8;
  Key prefix = 0, known = 0;  // the bits found so far, and a mask of them
  std::int64_t wanted = k;
  for (int top = kBits; top > 0;) {
    const int shift = top > kDigitBits ? top - kDigitBits : 0;
    const Key digit_mask = static_cast<Key>((Key(1) << (top - shift)) - 1);
    // Two histograms in turn: equal neighbours do not wait for each other's counter.
    std::int64_t count[2][kBins] = {};
    for (std::int64_t i = 0; i < n; ++i) {
      const Key key = keys[i];
      if ((key & known) == prefix) ++count[i & 1][(key >> shift) & digit_mask];
    }
    int digit = static_cast<int>(digit_mask);
    std::int64_t here = count[0][digit] + count[1][digit];
    while (wanted > here) {
      wanted -= here;
      --digit;
      here = count[0][digit] + count[1][digit];
    }
    prefix = static_cast<Key>(prefix | (static_cast<Key>(digit) << shift));
    known = static_cast<Key>(known | (digit_mask << shift));
    if (wanted == here) {
      // All of this bin is selected: everything not below its smallest key. That key is not 0, or
      // all n would be selected.
      return Threshold<Key>{static_cast<Key>(prefix - 1), 0};
    }
    top = shift;
  }
  return Threshold<Key>{prefix, wanted};
}

template <class T>
void select(const Keys<T>& keys, std::int64_t n, std::int64_t k, std::int64_t* out) {
  if (k == 0) return;
  if (k == n) {
    for (std::int64_t i = 0; i < n; ++i) out[i] = i;
    return;
  }
  auto [threshold, ties] = find_threshold(keys, n, k);
  // Branch-free: the index is always written, and kept by moving on. It fits, as written < k.
  for (std::int64_t i = 0, written = 0; written < k; ++i) {
    const auto key = keys[i];
    const bool tie = key == threshold && ties > 0;
    ties -= tie;
    out[written] = i;
    written += key > threshold || tie;
  }
}

// How a range of scores lies to a bracket [low, high].
struct Counts {
  std::int64_t above = 0, at_high = 0, inside = 0, at_low = 0;
  bool nan = false, overflow = false;
};

// For every mask of eight lanes, the numbers of its lanes in order, a byte each.
struct LanesOfMask {
  std::uint64_t word[256];
  constexpr LanesOfMask() : word() {
    for (unsigned mask = 0; mask < 256; ++mask) {
      int at = 0;
      for (unsigned lane = 0; lane < 8; ++lane)
        if (mask >> lane & 1u) word[mask] |= std::uint64_t(lane) << (8 * at++);
    }
  }
};
[[maybe_unused]] constexpr LanesOfMask kLanesOfMask;

#define FASTPRUNE_WIDTH 1
namespace portable {
#include "select_kernel.h"
}  // namespace portable
#undef FASTPRUNE_WIDTH

#if defined(__x86_64__) && defined(__GNUC__)

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,popcnt"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,popcnt")
#endif
#define FASTPRUNE_WIDTH 8
namespace avx2 {
#include "select_kernel.h"
}  // namespace avx2
#undef FASTPRUNE_WIDTH
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,popcnt,avx512f,avx512bw,avx512dq,avx512vl"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,popcnt,avx512f,avx512bw,avx512dq,avx512vl")
#endif
#define FASTPRUNE_WIDTH 16
namespace avx512 {
#include "select_kernel.h"
}  // namespace avx512
#undef FASTPRUNE_WIDTH
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif

struct Passes {
  Counts (*count)(const float* scores, std::int64_t n, float low, float high, float* inside,
                  std::int64_t capacity);
  void (*write)(const float* scores, std::int64_t begin, std::int64_t end, float threshold, std::int64_t ties,
                std::int64_t* out, std::int64_t size);
};

Passes passes(bool largest) {
#if defined(__x86_64__) && defined(__GNUC__)
  switch (instruction_set()) {
    case InstructionSet::kAvx512:
      if (largest) return {avx512::count<false>, avx512::write<false>};
      return {avx512::count<true>, avx512::write<true>};
    case InstructionSet::kAvx2:
      if (largest) return {avx2::count<false>, avx2::write<false>};
      return {avx2::count<true>, avx2::write<true>};
    case InstructionSet::kPortable: break;
  }
#endif
  if (largest) return {portable::count<false>, portable::write<false>};
  return {portable::count<true>, portable::write<true>};
}

struct Bracket {
  float low, high;
};

// Two values of which the k-th largest of n lies between, as good as surely.
Bracket bracket(const float* scores, std::int64_t n, std::int64_t k, float sign) {
  const auto wanted = static_cast<std::int64_t>(4.0 * std::sqrt(static_cast<double>(n)));
  const std::int64_t size = std::min<std::int64_t>(std::max<std::int64_t>(wanted, 512), 16384);
  std::vector<float> sample(static_cast<std::size_t>(size));
  // One score out of each of `size` equal stretches, at a place that no period of the scores meets.
  std::uint64_t state = 0x9e3779b97f4a7c15u;
  const double stretch = static_cast<double>(n) / static_cast<double>(size);
  for (std::int64_t i = 0; i < size; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const double place = (static_cast<double>(i) + static_cast<double>(state >> 40) * 0x1p-24) * stretch;
    const float value = sign * scores[std::min(static_cast<std::int64_t>(place), n - 1)];
    sample[static_cast<std::size_t>(i)] = value == value ? value : 0.0f;  // a NaN is reported later
  }
  const double share = static_cast<double>(k) / static_cast<double>(n);
  const double rank = share * static_cast<double>(size);
  const double margin = 3.5 * std::sqrt(rank * (1.0 - share)) + 3.0;
  const auto first = static_cast<std::int64_t>(rank - margin), last = static_cast<std::int64_t>(rank + margin);
  const auto descending = [](float a, float b) { return a > b; };
  Bracket result{-std::numeric_limits<float>::infinity(), std::numeric_limits<float>::infinity()};
  if (first > 0) {
    std::nth_element(sample.begin(), sample.begin() + first, sample.end(), descending);
    result.high = sample[static_cast<std::size_t>(first)];
  }
  if (last < size) {
    std::nth_element(sample.begin() + std::max<std::int64_t>(first, 0), sample.begin() + last, sample.end(),
                     descending);
    result.low = sample[static_cast<std::size_t>(last)];
  }
  return result;
}

// The k-th largest of n values, which it moves about. 1 <= k <= n.
float kth_largest(float* values, std::int64_t n, std::int64_t k) {
  const Passes pass = passes(true);
  while (n > 4096) {
    const Bracket b = bracket(values, n, k, 1.0f);
    // A register's worth more than n may be stored; there is room for that.
    const Counts c = pass.count(values, n, b.low, b.high, values, n);
    if (k <= c.above || k > c.above + c.at_high + c.inside + c.at_low) break;
    if (k <= c.above + c.at_high) return b.high;
    if (k > c.above + c.at_high + c.inside) return b.low;
    k -= c.above + c.at_high;
    if (c.inside == n) break;
    n = c.inside;
  }
  std::nth_element(values, values + (k - 1), values + n, [](float a, float b) { return a > b; });
  return values[k - 1];
}

enum class Outcome { kDone, kNan, kUndecided };

constexpr std::int64_t kFewScores = 2048;
constexpr std::int64_t kScoresPerThread = 1 << 15;
constexpr int kRegister = 16;

// Requires 1 <= k < n.
Outcome select_fast(const float* scores, std::int64_t n, std::int64_t k, bool largest, int threads,
                    std::int64_t* out) {
  const Passes pass = passes(largest);
  const float sign = largest ? 1.0f : -1.0f;
  const Bracket b = bracket(scores, n, k, sign);

  struct Part {
    std::int64_t begin, end, first_out, size, ties;
    float* inside;
    Counts counts;
  };
  const std::int64_t most = std::max<std::int64_t>(n / kScoresPerThread, 1);
  const std::int64_t parts = std::min<std::int64_t>(std::max(threads, 1), most);
  // For each part as much as all of it should be, for sorted scores have it all in one place; memory that
  // is not written to is not used.
  const std::int64_t capacity = n / 16 + 4096;
  const std::int64_t room = capacity + 2 * kRegister;
  const std::unique_ptr<float[]> inside(new float[static_cast<std::size_t>(parts * room)]);
  std::vector<Part> part(static_cast<std::size_t>(parts));
  for (std::int64_t i = 0; i < parts; ++i) {
    Part& p = part[static_cast<std::size_t>(i)];
    p = {n / parts * i + std::min(i, n % parts), 0, 0, 0, 0, inside.get() + i * room, {}};
    if (i > 0) part[static_cast<std::size_t>(i - 1)].end = p.begin;
  }
  part.back().end = n;
  parallel_for(parts, threads, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      Part& p = part[static_cast<std::size_t>(i)];
      p.counts = pass.count(scores + p.begin, p.end - p.begin, b.low, b.high, p.inside, capacity);
    }
  });

  Counts all;
  for (const Part& p : part) {
    if (p.counts.overflow) return Outcome::kUndecided;
    if (p.counts.nan) return Outcome::kNan;
    all.above += p.counts.above;
    all.at_high += p.counts.at_high;
    all.inside += p.counts.inside;
    all.at_low += p.counts.at_low;
  }
  if (k <= all.above || k > all.above + all.at_high + all.inside + all.at_low) return Outcome::kUndecided;

  float threshold;
  if (k <= all.above + all.at_high) {
    threshold = b.high;
  } else if (k > all.above + all.at_high + all.inside) {
    threshold = b.low;
  } else {
    const std::unique_ptr<float[]> copy(new float[static_cast<std::size_t>(all.inside + kRegister)]);
    float* end = copy.get();
    for (const Part& p : part) end = std::copy(p.inside, p.inside + p.counts.inside, end);
    threshold = kth_largest(copy.get(), all.inside, k - all.above - all.at_high);
  }

  std::int64_t over = 0;
  for (Part& p : part) {
    const Counts& c = p.counts;
    const auto count = [&](const auto& condition) { return std::count_if(p.inside, p.inside + c.inside, condition); };
    p.size = c.above;
    if (b.high > threshold) p.size += c.at_high;
    p.size += count([=](float x) { return x > threshold; });
    p.ties = count([=](float x) { return x == threshold; });
    if (b.high == threshold) p.ties += c.at_high;
    else if (b.low == threshold) p.ties += c.at_low;
    over += p.size;
  }
  std::int64_t ties = k - over, written = 0;
  for (Part& p : part) {
    p.ties = std::min(p.ties, ties);
    ties -= p.ties;
    p.size += p.ties;
    p.first_out = written;
    written += p.size;
  }
  parallel_for(parts, threads, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const Part& p = part[static_cast<std::size_t>(i)];
      pass.write(scores, p.begin, p.end, threshold, p.ties, out + p.first_out, p.size);
    }
  });
  return Outcome::kDone;
}

template <class Body>
auto with_type(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::kFloat16: return body(Half{});
    case DType::kBFloat16: return body(BFloat16{});
    case DType::kFloat32: return body(float{});
    case DType::kFloat64: return body(double{});
    case DType::kInt32: return body(std::int32_t{});
    case DType::kInt64: break;
  }
  return body(std::int64_t{});
}

std::int64_t first_nan(const void* scores, DType dtype, std::int64_t n, std::int64_t stride) {
  return with_type(dtype, [=](auto element) -> std::int64_t {
    using T = decltype(element);
    const Strided<T> values{static_cast<const T*>(scores), stride};
    for (std::int64_t i = 0; i < n; ++i)
      if (is_nan(values[i])) return i;
    return -1;
  });
}

}  // namespace

std::int64_t select_topk(const void* scores, DType dtype, std::int64_t n, std::int64_t stride,
                         std::int64_t k, bool largest, int threads, std::int64_t* out) {
  prefer_huge_pages(out, static_cast<std::size_t>(k) * sizeof *out);
  const bool fast = dtype == DType::kFloat32 && stride == 1 && n >= kFewScores && k > 0 && k < n;
  if (fast) {
    const auto outcome = select_fast(static_cast<const float*>(scores), n, k, largest, threads, out);
    if (outcome == Outcome::kDone) return -1;
  }
  const std::int64_t nan_at = first_nan(scores, dtype, n, stride);
  if (nan_at >= 0) return nan_at;
  with_type(dtype, [=](auto element) {
    using T = decltype(element);
    using Key = typename Keys<T>::Key;
    const Key flip = largest ? Key(0) : static_cast<Key>(~Key(0));
    select(Keys<T>{{static_cast<const T*>(scores), stride}, flip}, n, k, out);
  });
  return -1;
}

}  // namespace fastprune
