// Kinds of scores, and the integer key that orders them: the larger key is selected first.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

namespace fastprune {

// A kind says how a score lies in memory and what it is widened to. Floats are sign and magnitude; a magnitude
// above kInfinity is a NaN.
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
using Int32 = Kind<std::int32_t, std::int32_t>;  // unsigned ones too, by Order::flip
using Int64 = Kind<std::int64_t, std::int64_t>;

template <class Key>
constexpr Key kLowest = std::numeric_limits<Key>::min();
template <class Key>
constexpr Key kHighest = std::numeric_limits<Key>::max();

// How keys follow from scores: in two's complement a magnitude under its sign is in order, and -0.0 meets 0.0;
// `flip` turns the order around, or moves unsigned integers to signed ones; NaN gets `nan`, an end of the range
// that no number has. (fastprune/selection/keys.py forms the same keys.)
template <class Key>
struct Order {
  Key flip = 0;
  Key nan = kLowest<Key>;
};

// How keys lie to a bracket [low, high]; what is inside is neither end.
struct Counts {
  std::int64_t above = 0, at_high = 0, inside = 0;
  bool nan = false;

  Counts& operator+=(const Counts& other) {
    above += other.above;
    at_high += other.at_high;
    inside += other.inside;
    nan |= other.nan;
    return *this;
  }
};

// Where a selection ends: every key above `key`, and the first `ties` of those equal to it.
template <class Key>
struct Threshold {
  Key key = 0;
  std::int64_t ties = 0;
};

// How many keys are above a pivot, and how many equal it.
struct Tally {
  std::int64_t above = 0, equal = 0;
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
[[maybe_unused]] inline constexpr LanesOfMask kLanesOfMask;

// Keys that a buffer must have room for beyond its last: whole registers are stored.
constexpr std::int64_t kRegister = 16;

}  // namespace fastprune
