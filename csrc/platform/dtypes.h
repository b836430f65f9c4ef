// Element types as they cross from Python, and their exact conversion to a type we compute in.
#pragma once

#include <cstdint>
#include <cstring>

namespace fastprune {

// Python passes these as `_core.DType`, under torch's names for them (see bindings.cpp).
enum class DType : int {
  kFloat16, kBFloat16, kFloat32, kFloat64,
  kInt8, kUInt8, kInt16, kUInt16, kInt32, kUInt32, kInt64, kUInt64,
};

// Storage types for the 16-bit formats, so that overloads can tell them apart.
struct Half { std::uint16_t bits; };
struct BFloat16 { std::uint16_t bits; };

template <class To, class From>
inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "bit_cast needs equal sizes");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

inline double to_compute(double value) { return value; }
inline float to_compute(float value) { return value; }
inline float to_compute(BFloat16 value) {
  return bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

// Moves exponent and mantissa into place and re-biases the exponent with integer adds. A subnormal
// gets an implicit one that the subtraction takes away again, so that no subnormal float is ever an
// operand: the result is the same when the thread flushes those to zero. Branch-free, so that
// a loop over it vectorises.
inline float to_compute(Half value) {
  const std::uint32_t magnitude = static_cast<std::uint32_t>(value.bits & 0x7fffu) << 13;
  const std::uint32_t exponent = magnitude & 0x0f800000u;
  const std::uint32_t rebias = 112u << 23;
  const std::uint32_t special = exponent == 0x0f800000u ? rebias : 0u;
  const std::uint32_t subnormal = exponent == 0u ? 1u << 23 : 0u;
  const float offset = bit_cast<float>(exponent == 0u ? 113u << 23 : 0u);
  const float positive = bit_cast<float>(magnitude + rebias + special + subnormal) - offset;
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000u) << 16;
  return bit_cast<float>(bit_cast<std::uint32_t>(positive) | sign);
}

inline std::int16_t minus_infinity(Half) { return static_cast<std::int16_t>(0xfc00u); }
inline std::int16_t minus_infinity(BFloat16) { return static_cast<std::int16_t>(0xff80u); }

// To the nearest half-precision number, ties to even; overflow to infinity, NaN stays NaN. Integers
// only, so that nothing depends on the thread's rounding or flushing of subnormals.
inline Half to_half(float value) {
  const std::uint32_t bits = bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  std::uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u;
  } else if (magnitude >= 0x477ff000u) {  // 65520 and more round past the largest
    half = 0x7c00u;
  } else if (magnitude >= 0x38800000u) {  // normal: 2^-14 and more
    half = (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
  } else if (magnitude > 0x33000000u) {  // subnormal: more than 2^-25
    const std::uint32_t mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    const std::uint32_t shift = 126u - (magnitude >> 23);  // 14 to 24
    const std::uint32_t kept = mantissa >> shift, rest = mantissa & ((1u << shift) - 1u);
    const std::uint32_t middle = 1u << (shift - 1u);
    half = kept + (rest > middle || (rest == middle && (kept & 1u)) ? 1u : 0u);
  } else {
    half = 0;
  }
  return Half{static_cast<std::uint16_t>(sign | half)};
}

}  // namespace fastprune
