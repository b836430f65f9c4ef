// Sixteen floats side by side, and what the row kernels do with them.
//
// Included once for each instruction set, in a namespace of its own, with FASTPRUNE_WIDTH set to the
// floats in a register: 16 (AVX-512), 8 (AVX2 with FMA and F16C) or 4 (any machine); hence no include
// guard. A lane holds every sixteenth element whatever the width, and operations are fused only where
// it says fma, so AVX-512 and AVX2 give the same bits; without a fused instruction the last differ.

typedef float Vector __attribute__((vector_size(4 * FASTPRUNE_WIDTH)));
typedef std::int32_t IntVector __attribute__((vector_size(4 * FASTPRUNE_WIDTH)));
typedef double DoubleVector __attribute__((vector_size(4 * FASTPRUNE_WIDTH)));  // half as many lanes
typedef std::int64_t LongVector __attribute__((vector_size(4 * FASTPRUNE_WIDTH)));
typedef float Quad __attribute__((vector_size(16)));

constexpr int kWidth = FASTPRUNE_WIDTH;
constexpr int kRegisters = kLanes / kWidth;

#define FASTPRUNE_INLINE inline __attribute__((always_inline))

FASTPRUNE_INLINE Vector splat(float x) { return x - Vector{}; }

FASTPRUNE_INLINE Vector load(const float* from) {
  Vector v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
FASTPRUNE_INLINE void store(float* to, Vector v) { __builtin_memcpy(to, &v, sizeof v); }

FASTPRUNE_INLINE DoubleVector load(const double* from) {
  DoubleVector v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
FASTPRUNE_INLINE LongVector load(const std::int64_t* from) {
  LongVector v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}

// Two halves of a register, `low` first. Through memory they would be late: a load of two stores waits for both.
template <class Whole, class Half>
FASTPRUNE_INLINE Whole joined(Half low, Half high) {
#if FASTPRUNE_WIDTH == 16
  return (Whole)_mm512_inserti64x4(_mm512_castsi256_si512((__m256i)low), (__m256i)high, 1);
#elif FASTPRUNE_WIDTH == 8
  return (Whole)_mm256_inserti128_si256(_mm256_castsi128_si256((__m128i)low), (__m128i)high, 1);
#else
  return Whole{low[0], low[1], high[0], high[1]};
#endif
}
// Doubles rounded to floats, and 64-bit integers to their lower halves.
FASTPRUNE_INLINE Vector narrowed(DoubleVector low, DoubleVector high) {
  typedef float Narrow __attribute__((vector_size(2 * FASTPRUNE_WIDTH)));
  return joined<Vector>(__builtin_convertvector(low, Narrow), __builtin_convertvector(high, Narrow));
}
FASTPRUNE_INLINE IntVector narrowed(LongVector low, LongVector high) {
  typedef std::int32_t Narrow __attribute__((vector_size(2 * FASTPRUNE_WIDTH)));
  return joined<IntVector>(__builtin_convertvector(low, Narrow), __builtin_convertvector(high, Narrow));
}

// max_lanes: the larger of each pair of lanes, and b where either is NaN. So the running maximum goes second to
// pass NaNs over, and a bound goes first to let them through.

#if FASTPRUNE_WIDTH == 16

FASTPRUNE_INLINE Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
FASTPRUNE_INLINE Vector square_root(Vector a) { return _mm512_sqrt_ps(a); }
FASTPRUNE_INLINE Vector max_lanes(Vector a, Vector b) { return _mm512_max_ps(a, b); }
FASTPRUNE_INLINE Vector load(const Half* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
FASTPRUNE_INLINE Vector load(const BFloat16* from) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
FASTPRUNE_INLINE void store(Half* to, Vector v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
FASTPRUNE_INLINE void store_high_halves(std::uint16_t* to, IntVector v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                      _mm512_cvtepi32_epi16(_mm512_srli_epi32((__m512i)v, 16)));
}
// The first n elements, and -inf in the other lanes; no more is read. 0 <= n <= kWidth.
FASTPRUNE_INLINE Vector load_first(const float* from, int n) {
  const __mmask16 mask = static_cast<__mmask16>((1u << n) - 1u);
  return _mm512_mask_loadu_ps(splat(-__builtin_inff()), mask, from);
}
template <class Element>
FASTPRUNE_INLINE Vector load_first(const Element* from, int n) {
  const __mmask16 mask = static_cast<__mmask16>((1u << n) - 1u);
  const __m256i bits = _mm256_mask_loadu_epi16(_mm256_set1_epi16(minus_infinity(Element{})), mask, from);
  return load(reinterpret_cast<const Element*>(&bits));
}
// Element j of v[i] goes to element i of v[j]: pairs of elements, of pairs, of fours, of eights.
FASTPRUNE_INLINE void transpose(Vector (&v)[16]) {
  __m512 a[16], b[16];
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_ps(v[i], v[i + 1]);
    a[i + 1] = _mm512_unpackhi_ps(v[i], v[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    for (int j = 0; j < 2; ++j) {
      const __m512d low = _mm512_castps_pd(a[i + j]), high = _mm512_castps_pd(a[i + j + 2]);
      b[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
      b[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
    }
  }
  for (int i = 0; i < 4; ++i) {
    const __m512 even_low = _mm512_shuffle_f32x4(b[i], b[i + 4], 0x88);
    const __m512 odd_low = _mm512_shuffle_f32x4(b[i], b[i + 4], 0xdd);
    const __m512 even_high = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0x88);
    const __m512 odd_high = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0xdd);
    v[i] = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
    v[i + 4] = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
    v[i + 8] = _mm512_shuffle_f32x4(even_low, even_high, 0xdd);
    v[i + 12] = _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd);
  }
}

// The first n elements, 0 < n <= 4, and zeros; no more is read.
FASTPRUNE_INLINE Quad load_quad(const float* from, int n) {
  return _mm_maskz_loadu_ps(static_cast<__mmask8>((1u << n) - 1u), from);
}
template <class Element>
FASTPRUNE_INLINE Quad load_quad(const Element* from, int n) {
  const __m128i bits = _mm_maskz_loadu_epi16(static_cast<__mmask8>((1u << n) - 1u), from);
  if constexpr (std::is_same_v<Element, Half>) return _mm_cvtph_ps(bits);
  return _mm_castsi128_ps(_mm_slli_epi32(_mm_cvtepu16_epi32(bits), 16));
}
// The same for four columns of sixteen rows, of which n are wanted: a third of the shuffles.
template <class Element>
FASTPRUNE_INLINE void load_columns(const Element* const* rows, std::int64_t column, int n, Vector* v) {
  __m512 a[4];
  for (int i = 0; i < 4; ++i) {
    const auto quad = [&](int lane) __attribute__((always_inline)) { return load_quad(rows[4 * lane + i] + column, n); };
    a[i] = _mm512_castps128_ps512(quad(0));
    a[i] = _mm512_insertf32x4(a[i], quad(1), 1);
    a[i] = _mm512_insertf32x4(a[i], quad(2), 2);
    a[i] = _mm512_insertf32x4(a[i], quad(3), 3);
  }
  for (int j = 0; j < 2; ++j) {
    const __m512 first = j ? _mm512_unpackhi_ps(a[0], a[1]) : _mm512_unpacklo_ps(a[0], a[1]);
    const __m512 last = j ? _mm512_unpackhi_ps(a[2], a[3]) : _mm512_unpacklo_ps(a[2], a[3]);
    v[2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(first), _mm512_castps_pd(last)));
    v[2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(first), _mm512_castps_pd(last)));
  }
}

#elif FASTPRUNE_WIDTH == 8

FASTPRUNE_INLINE Vector fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
FASTPRUNE_INLINE Vector square_root(Vector a) { return _mm256_sqrt_ps(a); }
FASTPRUNE_INLINE Vector max_lanes(Vector a, Vector b) { return _mm256_max_ps(a, b); }
FASTPRUNE_INLINE Vector load(const Half* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
FASTPRUNE_INLINE Vector load(const BFloat16* from) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
FASTPRUNE_INLINE void store(Half* to, Vector v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
FASTPRUNE_INLINE void store_high_halves(std::uint16_t* to, IntVector v) {
  const __m256i high = _mm256_srli_epi32((__m256i)v, 16);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                   _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1)));
}
FASTPRUNE_INLINE Vector load_first(const float* from, int n) {
  const IntVector lane = {0, 1, 2, 3, 4, 5, 6, 7};
  const IntVector wanted = lane < n;
  const Vector read = _mm256_maskload_ps(from, (__m256i)wanted);
  return wanted ? read : splat(-__builtin_inff());
}
FASTPRUNE_INLINE void transpose(Vector (&v)[8]) {
  __m256 a[8], b[8];
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
    a[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    for (int j = 0; j < 2; ++j) {
      const __m256d low = _mm256_castps_pd(a[i + j]), high = _mm256_castps_pd(a[i + j + 2]);
      b[i + 2 * j] = _mm256_castpd_ps(_mm256_unpacklo_pd(low, high));
      b[i + 2 * j + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low, high));
    }
  }
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
    v[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
  }
}

#else

FASTPRUNE_INLINE Vector fma(Vector a, Vector b, Vector c) { return a * b + c; }
FASTPRUNE_INLINE Vector less_multiple_of_ln2(Vector x, Vector n) {
  // Without a fused operation ln 2 goes in two parts, of which the first is exact times n.
  return (x - n * 0.693359375f) + n * 2.1219444e-4f;
}
FASTPRUNE_INLINE Vector square_root(Vector a) {
  for (int i = 0; i < kWidth; ++i) a[i] = __builtin_sqrtf(a[i]);
  return a;
}
FASTPRUNE_INLINE Vector max_lanes(Vector a, Vector b) { return a > b ? a : b; }
template <class Element>
FASTPRUNE_INLINE Vector load(const Element* from) {
  return Vector{to_compute(from[0]), to_compute(from[1]), to_compute(from[2]), to_compute(from[3])};
}
FASTPRUNE_INLINE void store(Half* to, Vector v) {
  for (int i = 0; i < kWidth; ++i) to[i] = to_half(v[i]);
}
FASTPRUNE_INLINE void store_high_halves(std::uint16_t* to, IntVector v) {
  for (int i = 0; i < kWidth; ++i) to[i] = static_cast<std::uint16_t>(static_cast<std::uint32_t>(v[i]) >> 16);
}
FASTPRUNE_INLINE void transpose(Vector (&v)[4]) {
  const Vector w[4] = {v[0], v[1], v[2], v[3]};
  for (int i = 0; i < 4; ++i) v[i] = Vector{w[0][i], w[1][i], w[2][i], w[3][i]};
}

#endif

#if FASTPRUNE_WIDTH != 16
template <class Element>
FASTPRUNE_INLINE Vector load_first(const Element* from, int n) {
  Vector v = splat(-__builtin_inff());
  for (int i = 0; i < kWidth; ++i)
    if (i < n) v[i] = to_compute(from[i]);
  return v;
}
#endif

// The first n < kLanes elements, and -inf after them.
FASTPRUNE_INLINE void copy_padded(float* to, const float* from, int n) {
  for (int j = 0; j < kRegisters; ++j) {
    const int here = n - j * kWidth;
    store(to + j * kWidth, load_first(from + j * kWidth, here < 0 ? 0 : here < kWidth ? here : kWidth));
  }
}

#if FASTPRUNE_WIDTH != 4
// x - n ln 2. ln 2 rounded to a float is off by 2.8e-9 of itself, so that one fused constant does.
FASTPRUNE_INLINE Vector less_multiple_of_ln2(Vector x, Vector n) {
  return fma(n, splat(-0.693147182f), x);
}
#endif

// To the nearest bfloat16, ties to even; NaN stays NaN.
FASTPRUNE_INLINE void store(BFloat16* to, Vector v) {
  const IntVector bits = (IntVector)v;
  const IntVector rounded = bits + 0x7fff + ((bits >> 16) & 1);
  store_high_halves(&to->bits, v == v ? rounded : bits | 0x400000);
}

FASTPRUNE_INLINE Vector load_difference(const float* from, float reference) {
  return load(from) - splat(reference);
}
// Doubles are subtracted before they are rounded.
FASTPRUNE_INLINE Vector load_difference(const double* from, double reference) {
  float v[kWidth];
  for (int i = 0; i < kWidth; ++i) v[i] = static_cast<float>(from[i] - reference);
  return load(v);
}

// Below this an exponential is taken as e^-43 = 2e-19. In a sum that holds a one, C such terms
// change it by less than C * 2e-19, far under a float's precision, while the square of the smallest
// stays a normal number: subnormal arithmetic costs a hundred cycles on many processors.
constexpr float kSmallestExponent = -43.0f;
constexpr float kSmallestNormal = -87.0f;  // e^-87 is the smallest the algorithm below can make

// e^r for |r| <= ln(2)/2 as 1 + r + r^2 q(r), q a degree-3 minimax fit. Relative error below 1.7e-7, of
// which 1.1e-7 is the fit's, and e^0 is exactly 1.
FASTPRUNE_INLINE Vector exp_reduced(Vector r) {
  Vector q = fma(r, splat(0.008312501f), splat(0.04189033f));
  q = fma(q, r, splat(0.16667116f));
  q = fma(q, r, splat(0.4999923f));
  return fma(fma(q, r, splat(1.0f)), r, splat(1.0f));
}

// e^x for smallest <= x <= 0 with smallest >= -87, e^smallest below that, NaN for NaN. Relative error
// below 2.3e-7.
//
// x = n ln 2 + r.
FASTPRUNE_INLINE Vector exp_nonpositive(Vector x, float smallest = kSmallestExponent) {
  x = max_lanes(splat(smallest), x);
  const Vector magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Vector shifted = fma(x, splat(1.44269504f), magic);
  const Vector e = exp_reduced(less_multiple_of_ln2(x, shifted - magic));
  // The low bits of `shifted` hold n; moved into the exponent field they multiply e by 2^n.
  return (Vector)((IntVector)e + ((IntVector)shifted << 23));
}

// Sixteen lanes to four, always as the same tree.
template <class Combine>
FASTPRUNE_INLINE Quad fold(const Vector (&v)[kRegisters], const Combine& combine) {
#if FASTPRUNE_WIDTH == 16
  typedef float Eight __attribute__((vector_size(32)));
  const Eight eight = combine((Eight)_mm512_castps512_ps256(v[0]), (Eight)_mm512_extractf32x8_ps(v[0], 1));
  return combine((Quad)_mm256_castps256_ps128(eight), (Quad)_mm256_extractf128_ps(eight, 1));
#elif FASTPRUNE_WIDTH == 8
  const Vector eight = combine(v[0], v[1]);
  return combine((Quad)_mm256_castps256_ps128(eight), (Quad)_mm256_extractf128_ps(eight, 1));
#else
  return combine(combine(v[0], v[2]), combine(v[1], v[3]));
#endif
}

FASTPRUNE_INLINE double sum_lanes(const Vector (&v)[kRegisters]) {
  const Quad q = fold(v, [](auto a, auto b) __attribute__((always_inline)) { return a + b; });
  return (static_cast<double>(q[0]) + q[2]) + (static_cast<double>(q[1]) + q[3]);
}

FASTPRUNE_INLINE float max_of_lanes(const Vector (&v)[kRegisters]) {
  const Quad q = fold(v, [](auto a, auto b) __attribute__((always_inline)) { return a > b ? a : b; });
  const float even = q[0] > q[2] ? q[0] : q[2], odd = q[1] > q[3] ? q[1] : q[3];
  return even > odd ? even : odd;
}
FASTPRUNE_INLINE float max_of_vector(Vector v) {
  Vector lanes[kRegisters];
  for (int j = 0; j < kRegisters; ++j) lanes[j] = v;
  return max_of_lanes(lanes);
}
