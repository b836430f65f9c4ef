#include "selection/draws.h"

#include <array>

#include "platform/dtypes.h"
#include "platform/parallel.h"

namespace fastprune {
namespace {

constexpr std::int64_t kDrawsPerThread = 4096;

std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> c, std::uint32_t key0, std::uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xd2511f53u} * c[0], b = std::uint64_t{0xcd9e8d57u} * c[2];
    c = {static_cast<std::uint32_t>(b >> 32) ^ c[1] ^ key0, static_cast<std::uint32_t>(b),
         static_cast<std::uint32_t>(a >> 32) ^ c[3] ^ key1, static_cast<std::uint32_t>(a)};
    key0 += 0x9e3779b9u;
    key1 += 0xbb67ae85u;
  }
  return c;
}

double uniform(Stream stream, std::uint64_t i) {
  const auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
  const auto high = [](std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); };
  const auto words =
      philox({low(i), high(i), low(stream.round), high(stream.round)}, low(stream.seed), high(stream.seed));
  const std::uint64_t bits = words[0] | std::uint64_t{words[1]} << 32;
  return (static_cast<double>(bits >> 12) + 0.5) * 0x1p-52;  // exact, and neither 0 nor 1
}

// x = 2^e m with m in [sqrt(1/2), sqrt(2)), so log x = e ln 2 + 2 atanh(s) with s = (m - 1) / (m + 1), below 0.172. The
// series ends before the term 2 s^25 / 25, which is less than 1e-20 s.
double logarithm(double x) {
  const bool subnormal = x < 0x1p-1022;
  if (subnormal) x *= 0x1p54;
  const std::uint64_t bits = bit_cast<std::uint64_t>(x), root_half = 0x3fe6a09e667f3bcdu;
  const auto e = static_cast<std::int64_t>(bits - root_half) >> 52;
  const double m = bit_cast<double>(bits - (static_cast<std::uint64_t>(e) << 52));
  const double s = (m - 1.0) / (m + 1.0), s2 = s * s;
  constexpr double coefficients[] = {2.0 / 23, 2.0 / 21, 2.0 / 19, 2.0 / 17, 2.0 / 15, 2.0 / 13,
                                     2.0 / 11, 2.0 / 9,  2.0 / 7,  2.0 / 5,  2.0 / 3};
  double series = 0.0;
  for (const double coefficient : coefficients) series = series * s2 + coefficient;
  const double exponent = static_cast<double>(subnormal ? e - 54 : e);
  // ln 2 in two parts. The first part times e is exact.
  return exponent * 0x1.62e42feep-1 + (2.0 * s + (s * s2 * series + exponent * 0x1.a39ef35793c76p-33));
}

}  // namespace

void uniforms(Stream stream, std::uint64_t first, std::int64_t n, int threads, double* out) {
  parallel_for(n, threads, kDrawsPerThread, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) out[i] = uniform(stream, first + static_cast<std::uint64_t>(i));
  });
}

void uniforms_of(Stream stream, const std::int64_t* ids, std::int64_t n, int threads, double* out) {
  parallel_for(n, threads, kDrawsPerThread, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) out[i] = uniform(stream, static_cast<std::uint64_t>(ids[i]));
  });
}

void gumbel_keys(Stream stream, const double* log_weights, std::int64_t n, int threads, double* out) {
  parallel_for(n, threads, kDrawsPerThread, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      out[i] = log_weights[i] - logarithm(-logarithm(uniform(stream, static_cast<std::uint64_t>(i))));
  });
}

void logarithms(const double* x, std::int64_t n, int threads, double* out) {
  parallel_for(n, threads, kDrawsPerThread, [=](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) out[i] = logarithm(x[i]);
  });
}

}  // namespace fastprune
