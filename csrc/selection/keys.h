// Kinds of scores, and the integer key that orders them: the score with the larger key is selected first.
//
// The order: numbers in numeric order or its reverse, -0.0 equal to 0.0, and NaN at one end. Equal scores have equal
// keys. fastprune/selection/keys.py forms the same keys.
//
// An ordinary header.
#pragma once

#include <cstdint>
#include <limits>

namespace fastprune {

// A kind says how a score lies in memory, and to which key type it is widened. Floats are sign and magnitude, and a
// magnitude above kInfinity is a NaN.
template <class StoredType, class KeyType, KeyType infinity = 0>
struct Kind {
  using Stored = StoredType;
  using Key = KeyType;
  static constexpr bool kIsFloat = infinity != 0;
  static constexpr Key kInfinity = infinity;
  static constexpr Key kMagnitude = kIsFloat ? std::numeric_limits<Stored>::max() : Key(-1);
  static constexpr std::int64_t kSize = sizeof(Stored);
};
using Float16 = Kind<std::int16_t, std::int32_t, 0x7c00>;
using BrainFloat16 = Kind<std::int16_t, std::int32_t, 0x7f80>;
using Float32 = Kind<std::int32_t, std::int32_t, 0x7f800000>;
using Float64 = Kind<std::int64_t, std::int64_t, 0x7ff0000000000000>;
using Int8 = Kind<std::int8_t, std::int32_t>;
using UInt8 = Kind<std::uint8_t, std::int32_t>;
using Int16 = Kind<std::int16_t, std::int32_t>;
using UInt16 = Kind<std::uint16_t, std::int32_t>;
using Int32 = Kind<std::int32_t, std::int32_t>;  // also for unsigned scores (see Order::flip)
using Int64 = Kind<std::int64_t, std::int64_t>;  // the same

template <class Key>
constexpr Key kLowest = std::numeric_limits<Key>::min();
template <class Key>
constexpr Key kHighest = std::numeric_limits<Key>::max();

// How keys follow from scores. A float's magnitude under its sign is in order in two's complement, and -0.0 and 0.0
// give the same key.
template <class Key>
struct Order {
  Key flip = 0;            // a mask of bits to invert: reverses the order, or moves unsigned integers to signed ones
  Key nan = kLowest<Key>;  // the key of NaN, an end of the range that no number has
};

}  // namespace fastprune
