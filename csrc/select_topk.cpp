// A score is mapped to an unsigned key of the same order; the key of the k-th selected score is
// found digit by digit from the top with histograms of 11-bit digits, and one more pass writes the
// indices in order. Unlike a quickselect this reads memory in order, does the same work for any
// values (mass ties included) and leaves the input alone.
//
// Bytes: at most (ceil(bits / 11) + 1) * n * sizeof(element) read and 8 k written.
#include "select_topk.h"

#include <limits>
#include <type_traits>

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

}  // namespace

std::int64_t first_nan(const void* scores, DType dtype, std::int64_t n, std::int64_t stride) {
  return with_type(dtype, [=](auto element) -> std::int64_t {
    using T = decltype(element);
    const Strided<T> values{static_cast<const T*>(scores), stride};
    for (std::int64_t i = 0; i < n; ++i)
      if (is_nan(values[i])) return i;
    return -1;
  });
}

void select_topk(const void* scores, DType dtype, std::int64_t n, std::int64_t stride,
                 std::int64_t k, bool largest, std::int64_t* out) {
  with_type(dtype, [=](auto element) {
    using T = decltype(element);
    using Key = typename Keys<T>::Key;
    const Key flip = largest ? Key(0) : static_cast<Key>(~Key(0));
    select(Keys<T>{{static_cast<const T*>(scores), stride}, flip}, n, k, out);
  });
}

}  // namespace fastprune
