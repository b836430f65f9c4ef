// Registers: their types, loads, stores and conversions.
//
// Included once for each instruction set, by platform/simd-inl.h.
//
// At every width:
//   splat(x)                         x in every lane
//   load(from), store(to, v)         kLanes<T> elements of type T
//   load_widened<Wide, Narrow>(from) kLanes<Wide> elements of type Narrow, converted to Wide
// At widths 4, 8 and 16:
//   load(from)                       kLanes<float> elements of type Half or BFloat16, as floats
//   load_first(from, n)              the first n elements as floats, and -inf in the other lanes. No element after the
//                                    first n is read. 0 <= n <= kLanes<float>.
//   store(to, v)                     floats rounded to Half or BFloat16, ties to even. NaN stays NaN.
//   narrowed(low, high)              doubles rounded to floats, or the lower halves of 64-bit integers. `low` gives
//                                    the first lanes.

#if FASTPRUNE_WIDTH == 1
using F32 = float;
using F64 = double;
using I32 = std::int32_t;
using I64 = std::int64_t;
#else
typedef float F32 __attribute__((vector_size(4 * FASTPRUNE_WIDTH)));
typedef double F64 __attribute__((vector_size(4 * FASTPRUNE_WIDTH)));
typedef std::int32_t I32 __attribute__((vector_size(4 * FASTPRUNE_WIDTH)));
typedef std::int64_t I64 __attribute__((vector_size(4 * FASTPRUNE_WIDTH)));
#endif

template <class T>
struct VecOf;
template <>
struct VecOf<float> { using Type = F32; };
template <>
struct VecOf<double> { using Type = F64; };
template <>
struct VecOf<std::int32_t> { using Type = I32; };
template <>
struct VecOf<std::int64_t> { using Type = I64; };

template <class T>
using Vec = typename VecOf<T>::Type;
template <class T>
constexpr int kLanes = static_cast<int>(sizeof(Vec<T>) / sizeof(T));

template <class T>
FASTPRUNE_INLINE Vec<T> splat(T x) { return x - Vec<T>{}; }

template <class T>
FASTPRUNE_INLINE Vec<T> load(const T* from) {
  Vec<T> v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
template <class T>
FASTPRUNE_INLINE void store(T* to, Vec<T> v) { __builtin_memcpy(to, &v, sizeof v); }

template <class Wide, class Narrow>
FASTPRUNE_INLINE Vec<Wide> load_widened(const void* from) {
#if FASTPRUNE_WIDTH == 1
  Narrow x;
  __builtin_memcpy(&x, from, sizeof x);
  return static_cast<Wide>(x);
#else
  typedef Narrow NarrowVec __attribute__((vector_size(kLanes<Wide> * sizeof(Narrow))));
  NarrowVec narrow;
  __builtin_memcpy(&narrow, from, sizeof narrow);
  return __builtin_convertvector(narrow, Vec<Wide>);
#endif
}

#if FASTPRUNE_WIDTH > 1

// A register from its two halves, `low` first. It does not go through memory: a load that spans two recent stores
// waits for both.
template <class Whole, class HalfOfIt>
FASTPRUNE_INLINE Whole joined(HalfOfIt low, HalfOfIt high) {
#if FASTPRUNE_WIDTH == 16
  return (Whole)_mm512_inserti64x4(_mm512_castsi256_si512((__m256i)low), (__m256i)high, 1);
#elif FASTPRUNE_WIDTH == 8
  return (Whole)_mm256_inserti128_si256(_mm256_castsi128_si256((__m128i)low), (__m128i)high, 1);
#else
  return Whole{low[0], low[1], high[0], high[1]};
#endif
}
FASTPRUNE_INLINE F32 narrowed(F64 low, F64 high) {
  typedef float Narrow __attribute__((vector_size(2 * FASTPRUNE_WIDTH)));
  return joined<F32>(__builtin_convertvector(low, Narrow), __builtin_convertvector(high, Narrow));
}
FASTPRUNE_INLINE I32 narrowed(I64 low, I64 high) {
  typedef std::int32_t Narrow __attribute__((vector_size(2 * FASTPRUNE_WIDTH)));
  return joined<I32>(__builtin_convertvector(low, Narrow), __builtin_convertvector(high, Narrow));
}

#if FASTPRUNE_WIDTH == 16

FASTPRUNE_INLINE F32 load(const Half* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
FASTPRUNE_INLINE F32 load(const BFloat16* from) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
FASTPRUNE_INLINE F32 load_first(const float* from, int n) {
  const __mmask16 mask = static_cast<__mmask16>((1u << n) - 1u);
  return _mm512_mask_loadu_ps(splat(-__builtin_inff()), mask, from);
}
template <class Element>
FASTPRUNE_INLINE F32 load_first(const Element* from, int n) {
  const __mmask16 mask = static_cast<__mmask16>((1u << n) - 1u);
  const __m256i bits = _mm256_mask_loadu_epi16(_mm256_set1_epi16(minus_infinity(Element{})), mask, from);
  return load(reinterpret_cast<const Element*>(&bits));
}
FASTPRUNE_INLINE void store(Half* to, F32 v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
FASTPRUNE_INLINE void store_high_halves(std::uint16_t* to, I32 v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                      _mm512_cvtepi32_epi16(_mm512_srli_epi32((__m512i)v, 16)));
}

#else

#if FASTPRUNE_WIDTH == 8

FASTPRUNE_INLINE F32 load(const Half* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
FASTPRUNE_INLINE F32 load(const BFloat16* from) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
FASTPRUNE_INLINE F32 load_first(const float* from, int n) {
  const I32 lane = {0, 1, 2, 3, 4, 5, 6, 7};
  const I32 wanted = lane < n;
  const F32 read = _mm256_maskload_ps(from, (__m256i)wanted);
  return wanted ? read : splat(-__builtin_inff());
}
FASTPRUNE_INLINE void store(Half* to, F32 v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
FASTPRUNE_INLINE void store_high_halves(std::uint16_t* to, I32 v) {
  const __m256i high = _mm256_srli_epi32((__m256i)v, 16);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                   _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1)));
}

#else

FASTPRUNE_INLINE F32 load(const Half* from) {
  return F32{to_compute(from[0]), to_compute(from[1]), to_compute(from[2]), to_compute(from[3])};
}
FASTPRUNE_INLINE F32 load(const BFloat16* from) {
  return F32{to_compute(from[0]), to_compute(from[1]), to_compute(from[2]), to_compute(from[3])};
}
FASTPRUNE_INLINE void store(Half* to, F32 v) {
  for (int i = 0; i < kLanes<float>; ++i) to[i] = to_half(v[i]);
}
FASTPRUNE_INLINE void store_high_halves(std::uint16_t* to, I32 v) {
  for (int i = 0; i < kLanes<float>; ++i) to[i] = static_cast<std::uint16_t>(static_cast<std::uint32_t>(v[i]) >> 16);
}

#endif

template <class Element>
FASTPRUNE_INLINE F32 load_first(const Element* from, int n) {
  F32 v = splat(-__builtin_inff());
  for (int i = 0; i < kLanes<float>; ++i)
    if (i < n) v[i] = to_compute(from[i]);
  return v;
}

#endif

FASTPRUNE_INLINE void store(BFloat16* to, F32 v) {
  const I32 bits = (I32)v;
  const I32 rounded = bits + 0x7fff + ((bits >> 16) & 1);
  store_high_halves(&to->bits, v == v ? rounded : bits | 0x400000);
}

#endif
