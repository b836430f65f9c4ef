// Random selections against their definition. `make sanitize` runs it, without Python, so that every sanitizer can
// watch.
//
//   fuzz_select_topk CASES SEED
//
// It also checks that nothing outside of out[0..k) is written, that the scores stay as they were, that two calls at the
// same time do not disturb each other, and that no more memory is taken than select_topk.h says.
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <new>
#include <random>
#include <thread>
#include <type_traits>
#include <vector>

// The source itself: a sample that misleads is tested through its parts.
#include "selection/select_topk.cpp"

namespace {

std::atomic<std::int64_t> in_use{0}, peak{0};

}  // namespace

#ifndef __SANITIZE_ADDRESS__  // this sanitizer has its own

__attribute__((noinline)) void* operator new(std::size_t size) {
  void* const block = std::malloc(size);
  if (block == nullptr) throw std::bad_alloc();
  const auto taken = static_cast<std::int64_t>(malloc_usable_size(block)), now = in_use.fetch_add(taken) + taken;
  for (std::int64_t seen = peak.load(); seen < now && !peak.compare_exchange_weak(seen, now);) {
  }
  return block;
}
__attribute__((noinline)) void operator delete(void* block) noexcept {
  if (block != nullptr) in_use.fetch_sub(static_cast<std::int64_t>(malloc_usable_size(block)));
  std::free(block);
}
void operator delete(void* block, std::size_t) noexcept { operator delete(block); }

#endif

namespace {

using fastprune::DType;
using fastprune::NanPolicy;
using Random = std::mt19937_64;

std::int64_t uniform(Random& random, std::int64_t low, std::int64_t high) {
  return std::uniform_int_distribution<std::int64_t>(low, high)(random);
}

// Half-precision scores are made from their bits, and compared as the doubles that these stand for.
struct Half {
  std::uint16_t bits;
};
struct Brain {
  std::uint16_t bits;
};

double as_double(Half x) {
  const int exponent = x.bits >> 10 & 31, mantissa = x.bits & 1023;
  const double size = exponent == 31  ? (mantissa ? std::nan("") : std::numeric_limits<double>::infinity())
                      : exponent == 0 ? std::ldexp(mantissa, -24)
                                      : std::ldexp(mantissa + 1024, exponent - 25);
  return x.bits >> 15 ? -size : size;
}
double as_double(Brain x) {
  const std::uint32_t bits = static_cast<std::uint32_t>(x.bits) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return static_cast<double>(value);
}

enum Kind { kNormal, kFewValues, kLowTies, kHighTies, kSorted, kReversed, kEqual, kBits, kPeriod, kClusters, kKinds };

template <class T>
T any_bits(Random& random) {
  const std::uint64_t bits = random();
  T value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <class T>
T from(double x, Random& random) {
  if constexpr (std::is_floating_point_v<T>) return static_cast<T>(x);
  if constexpr (std::is_integral_v<T>) {
    const double center = std::is_signed_v<T> ? 0.0 : 128.0;
    const double lowest = std::is_signed_v<T> ? -120.0 : 0.0, highest = 250.0 - 2 * (128.0 - center);
    return static_cast<T>(std::clamp(center + 30.0 * x, lowest, highest));
  }
  if constexpr (std::is_same_v<T, Half> || std::is_same_v<T, Brain>) {
    // bfloat16 takes the float's leading bits. float16 takes them with an exponent near 1, which is as good an order.
    const auto single = static_cast<float>(x);
    std::uint32_t bits;
    std::memcpy(&bits, &single, sizeof bits);
    if (std::is_same_v<T, Brain>) return {static_cast<std::uint16_t>(bits >> 16)};
    const auto exponent = std::clamp<std::int64_t>((bits >> 23 & 255) - 112, 0, 30);
    return {static_cast<std::uint16_t>((bits >> 16 & 0x8000) | exponent << 10 | (bits >> 13 & 1023))};
  }
  return any_bits<T>(random);
}

template <class T>
bool is_nan(T x) {
  if constexpr (std::is_floating_point_v<T>) return x != x;
  else if constexpr (std::is_integral_v<T>) return false;
  else return std::isnan(as_double(x));
}
template <class T>
bool less(T a, T b) {
  if constexpr (std::is_arithmetic_v<T>) return a < b;
  else return as_double(a) < as_double(b);
}

// About normal: the sum of four uniform numbers. Under a sanitizer std::normal_distribution takes as long as all else.
double bell(Random& random) {
  double sum = 0.0;
  for (int i = 0; i < 2; ++i) {
    const std::uint64_t bits = random();
    sum += static_cast<double>(bits >> 32) + static_cast<double>(bits & 0xffffffffu);
  }
  return (sum * 0x1p-32 - 2.0) * 1.7320508;
}
double share(Random& random) { return static_cast<double>(random() >> 11) * 0x1p-53; }

template <class T>
std::vector<T> scores_of(Kind kind, std::int64_t n, double nan_share, Random& random) {
  std::vector<T> x(n);
  for (std::int64_t i = 0; i < n; ++i) {
    double value = bell(random);
    if (kind == kFewValues) value = std::round(value * 2) / 2;
    if (kind == kLowTies) value = share(random) < 0.6 ? -0.0 : std::abs(value);
    if (kind == kHighTies) value = share(random) < 0.6 ? 9.0 : value;
    if (kind == kEqual) value = i % 3 ? -0.0 : 0.0;
    if (kind == kClusters) value = i < n / 2 ? value * 1e-6 : 1e3 + value;
    x[i] = kind == kBits ? any_bits<T>(random) : from<T>(value, random);
    if (is_nan(x[i])) x[i] = from<T>(1.0, random);
  }
  if (kind == kPeriod)
    for (std::int64_t i = n / 50 + 1; i < n; ++i) x[i] = x[i - n / 50 - 1];
  if (kind == kSorted || kind == kReversed) std::sort(x.begin(), x.end(), less<T>);
  if (kind == kReversed) std::reverse(x.begin(), x.end());
  if constexpr (!std::is_integral_v<T>)
    for (std::int64_t i = 0; i < n; ++i)
      if (share(random) < nan_share) std::memset(&x[i], share(random) < 0.5 ? 0xff : 0x7f, sizeof(T));
  return x;
}

void fail(const char* what, DType dtype, Kind kind, std::int64_t n, std::int64_t k, int threads) {
  std::fprintf(stderr, "%s: dtype %d, kind %d, n %lld, k %lld, %d threads\n", what, static_cast<int>(dtype),
               static_cast<int>(kind), static_cast<long long>(n), static_cast<long long>(k), threads);
  std::exit(1);
}

// The place of a score in the order. A long double holds every score exactly, also integers of 64 bits.
struct Rank {
  int place;  // of NaN: before or after the numbers
  long double value;

  bool operator<(const Rank& other) const { return place != other.place ? place < other.place : value < other.value; }
};

template <class T>
std::vector<Rank> ranks_of(const std::vector<T>& scores, bool largest, NanPolicy nan) {
  std::vector<Rank> ranks(scores.size());
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (is_nan(scores[i])) {
      ranks[i] = {nan == NanPolicy::kFirst ? -1 : 1, 0.0L};
      continue;
    }
    long double value;
    if constexpr (std::is_arithmetic_v<T>) value = scores[i];
    else value = as_double(scores[i]);
    ranks[i] = {0, largest ? -value : value};
  }
  return ranks;
}

// Whether the k indices are ascending, and no score before the last kept one, by rank and then index, is left out.
bool is_selection(const std::vector<Rank>& ranks, const std::int64_t* kept, std::int64_t k) {
  const auto n = static_cast<std::int64_t>(ranks.size());
  std::int64_t last_kept = -1, first_left = -1, j = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    if (j < k && kept[j] == i) {
      ++j;
      if (last_kept < 0 || !(ranks[i] < ranks[last_kept])) last_kept = i;
    } else if (first_left < 0 || ranks[i] < ranks[first_left]) {
      first_left = i;
    }
  }
  if (j < k) return false;
  if (last_kept < 0 || first_left < 0) return true;
  return ranks[last_kept] < ranks[first_left] || (!(ranks[first_left] < ranks[last_kept]) && last_kept < first_left);
}

template <class T>
void one_case(DType dtype, Random& random) {
  const auto kind = static_cast<Kind>(uniform(random, 0, kKinds - 1));
  const std::int64_t pick = uniform(random, 0, 9);
  const std::int64_t n = pick < 3   ? uniform(random, 0, 70)
                         : pick < 6 ? uniform(random, 500, 18000)
                                    : uniform(random, 16000, 150000);
  const bool largest = random() & 1;
  const auto nan = static_cast<NanPolicy>(uniform(random, 0, 2));
  const double nan_share = random() % 3 ? 0.0 : random() % 2 ? 0.3 : 3.0 / static_cast<double>(n + 1);
  const std::int64_t most[] = {n, n, n / 40, n / 400};  // few are selected another way
  const std::int64_t k = random() % 5 ? uniform(random, 0, most[random() % 4]) : uniform(random, 0, 3) * n / 3;
  const int threads = static_cast<int>(uniform(random, 1, 5));
  const std::vector<T> scores = scores_of<T>(kind, n, nan_share, random);

  // In memory they have any stride and alignment, and end where the allocation ends.
  constexpr std::int64_t own = sizeof(T);
  const std::int64_t strides[] = {own, own, own, 3 * own, own + 1, -own};
  const std::int64_t stride = strides[uniform(random, 0, 5)], step = std::abs(stride);
  const std::int64_t offset = uniform(random, 0, 3), size = n > 0 ? (n - 1) * step + std::int64_t{sizeof(T)} : 0;
  std::vector<char> memory(static_cast<std::size_t>(offset + size));
  char* const data = memory.data() + offset + (stride < 0 && n > 0 ? (n - 1) * step : 0);
  for (std::int64_t i = 0; i < n; ++i) std::memcpy(data + i * stride, &scores[i], sizeof(T));
  const std::vector<char> before = memory;

  const std::vector<Rank> ranks = ranks_of(scores, largest, nan);
  const auto first = std::find_if(scores.begin(), scores.end(), is_nan<T>);
  const std::int64_t nan_at = nan == NanPolicy::kRaise && first != scores.end() ? first - scores.begin() : -1;

  const auto check = [&] {
    std::vector<std::int64_t> out(k + 2, -7);
    if (fastprune::select_topk(data, dtype, n, stride, k, largest, nan, threads, out.data() + 1) != nan_at)
      fail("another NaN", dtype, kind, n, k, threads);
    if (out.front() != -7 || out.back() != -7) fail("written outside", dtype, kind, n, k, threads);
    if (nan_at < 0 && !is_selection(ranks, out.data() + 1, k))
      fail("another selection", dtype, kind, n, k, threads);
  };
  const std::int64_t held = in_use.load() + (k + 2) * 8;
  peak = held;
  check();
  // The bound of select_topk.h, and 4 KiB a thread for what std::thread and std::vector keep for themselves.
  if (peak - held > n / 8 + threads * (132 << 10) + (256 << 10)) fail("too much memory", dtype, kind, n, k, threads);
  std::thread other(check);
  check();
  other.join();
  if (memory != before) fail("scores written to", dtype, kind, n, k, threads);
}

void any_case(Random& random) {
  switch (static_cast<DType>(uniform(random, 0, 11))) {
    case DType::kFloat16: return one_case<Half>(DType::kFloat16, random);
    case DType::kBFloat16: return one_case<Brain>(DType::kBFloat16, random);
    case DType::kFloat32: return one_case<float>(DType::kFloat32, random);
    case DType::kFloat64: return one_case<double>(DType::kFloat64, random);
    case DType::kInt8: return one_case<std::int8_t>(DType::kInt8, random);
    case DType::kUInt8: return one_case<std::uint8_t>(DType::kUInt8, random);
    case DType::kInt16: return one_case<std::int16_t>(DType::kInt16, random);
    case DType::kUInt16: return one_case<std::uint16_t>(DType::kUInt16, random);
    case DType::kInt32: return one_case<std::int32_t>(DType::kInt32, random);
    case DType::kUInt32: return one_case<std::uint32_t>(DType::kUInt32, random);
    case DType::kInt64: return one_case<std::int64_t>(DType::kInt64, random);
    case DType::kUInt64: return one_case<std::uint64_t>(DType::kUInt64, random);
  }
}

// Scores whose sample says nothing about them: every sampled key is the same.
template <class K>
struct Misleading : fastprune::Scores<K> {
  typename K::Key at_random;
  typename K::Key key_at(std::int64_t) const { return at_random; }
};

template <class K, class T>
void misled_case(DType dtype, Random& random) {
  const auto kind = static_cast<Kind>(uniform(random, 0, kKinds - 1));
  const std::int64_t n = uniform(random, 20000, 200000), k = uniform(random, 1, n);
  const std::vector<T> scores = scores_of<T>(kind, n, 0.0, random);
  const auto* const data = reinterpret_cast<const char*>(scores.data());
  Misleading<K> source{{data, n, sizeof(T), {}, true}, 0};
  std::vector<typename K::Key> keys(n);
  for (std::int64_t i = 0; i < n; ++i) keys[i] = source.fastprune::template Scores<K>::key_at(i);
  source.at_random = random() % 3 ? keys[uniform(random, 0, n - 1)] : static_cast<typename K::Key>(random());
  std::vector<fastprune::Part> parts = fastprune::parts_of(n, 3);
  typename K::Key threshold;
  fastprune::split(source, k, fastprune::bracket(source, k, n, -3.0, 3.0), parts, threshold);
  std::nth_element(keys.begin(), keys.begin() + (k - 1), keys.end(), std::greater<>());
  std::int64_t above = 0, ties = 0;
  for (const auto& part : parts) above += part.size, ties += part.ties;
  if (threshold != keys[k - 1] || above >= k || above + ties < k) fail("misled", dtype, kind, n, k, 3);
}

// Memory at a size where n / 8 counts.
template <class T>
void large_case(DType dtype, std::int64_t n, Random& random) {
  const std::int64_t k = n / 2;
  const std::vector<T> scores = scores_of<T>(kNormal, n, 0.0, random);
  std::vector<std::int64_t> out(k);
  const std::int64_t held = in_use.load();
  peak = held;
  fastprune::select_topk(scores.data(), dtype, n, sizeof(T), k, true, NanPolicy::kRaise, 2, out.data());
  if (peak - held > n / 8 + (512 << 10)) fail("too much memory", dtype, kNormal, n, k, 2);
}

}  // namespace

int main(int argc, char** argv) {
  const long cases = argc > 1 ? std::atol(argv[1]) : 1000;
  Random random(argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 0);
  for (const std::int64_t n : {300000, 1000000, 4000000}) {
    large_case<float>(DType::kFloat32, n, random);
    large_case<double>(DType::kFloat64, n, random);
  }
  for (long i = 0; i < cases; ++i) {
    any_case(random);
    if (i % 10 == 0) misled_case<fastprune::Float32, float>(DType::kFloat32, random);
    if (i % 10 == 5) misled_case<fastprune::Int64, std::int64_t>(DType::kInt64, random);
  }
  std::printf("%ld cases\n", cases);
}
