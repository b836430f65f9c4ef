// Element types as they cross from Python, and how one element is converted.
//
// Gives the enumeration DType, storage types for the 16-bit formats, and conversions of single elements. Registers of
// elements are converted in platform/vectors-inl.h.
//
// An ordinary header. Everything here is a pure function of a few integer operations.
#pragma once

#include <cstdint>
#include <cstring>

namespace fastprune {

// Python passes these as `_core.DType`, with torch's names for them (see bindings.cpp).
enum class DType : int {
  kFloat16, kBFloat16, kFloat32, kFloat64,
  kInt8, kUInt8, kInt16, kUInt16, kInt32, kUInt32, kInt64, kUInt64,
};

// Storage types for the 16-bit formats. Overloads can tell them apart.
struct Half { std::uint16_t bits; };
struct BFloat16 { std::uint16_t bits; };

template <class To, class From>
inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "bit_cast needs equal sizes");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

// To the type that we compute in: double for double, else float. Exact.
inline double to_compute(double value) { return value; }
inline float to_compute(float value) { return value; }
inline float to_compute(BFloat16 value) {
  return bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

// Moves exponent and mantissa into place, then changes the exponent's bias with integer adds. A subnormal half gets an
// implicit one, which the subtraction takes away again. So no operand is a subnormal float, and the result is the same
// if the thread flushes those to zero. There is no branch, so that a loop over it vectorises.
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

// To the nearest half-precision number, ties to even. Overflow gives infinity, and NaN stays NaN. Only integers are
// used, so that nothing depends on how the thread rounds or flushes subnormals.
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

// Stores a float in the format of `to`, rounded to nearest, ties to even. NaN stays NaN.
inline void store_rounded(float* to, float x) { *to = x; }
inline void store_rounded(Half* to, float x) { *to = to_half(x); }
inline void store_rounded(BFloat16* to, float x) {
  const std::uint32_t bits = bit_cast<std::uint32_t>(x);
  to->bits = static_cast<std::uint16_t>(
      (x == x ? bits + 0x7fffu + (bits >> 16 & 1u) : bits | 0x400000u) >> 16);
}

}  // namespace fastprune
