// Arithmetic, comparisons and reductions of registers.
//
// Included once for each instruction set, by platform/simd-inl.h.
//
// At widths 4, 8 and 16, on floats:
//   fma(a, b, c)          a * b + c, rounded once if kFusedFma and twice otherwise
//   square_root(a)
//   max_lanes(a, b)       the larger of each pair of lanes, and b where either is NaN. So a running maximum goes second
//                         to pass over NaNs, and a bound goes first to let them through.
//   where(mask, a, b)     a in the lanes of the mask, b elsewhere
//   fold(v, combine)      the lanes combined to four, always as the same tree: the halves, then their halves
// At widths 1, 8 and 16, on integers:
//   above(a, b)           the mask of a > b
//   equal(a, b)           the mask of a == b
//   where(mask, a, b)     a in the lanes of the mask, b elsewhere
//   max_lanes(a, b)       the larger of each pair of lanes
//   counted(sum, mask)    sum + 1 in the lanes of the mask
//   bits_of<T>(mask)      one bit for each lane of a Vec<T>, lane 0 lowest
//   count_bits(bits)      how many bits are set
//   sum_of_lanes<T>(v)    the sum in 64 bits

#if FASTPRUNE_WIDTH > 1

constexpr bool kFusedFma = FASTPRUNE_WIDTH > 4;
typedef float Quad __attribute__((vector_size(16)));

FASTPRUNE_INLINE F32 where(I32 mask, F32 a, F32 b) { return mask ? a : b; }

#if FASTPRUNE_WIDTH == 16

FASTPRUNE_INLINE F32 fma(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }
FASTPRUNE_INLINE F32 square_root(F32 a) { return _mm512_sqrt_ps(a); }
FASTPRUNE_INLINE F32 max_lanes(F32 a, F32 b) { return _mm512_max_ps(a, b); }
template <class Combine>
FASTPRUNE_INLINE Quad fold(F32 v, const Combine& combine) {
  typedef float Eight __attribute__((vector_size(32)));
  const Eight eight = combine((Eight)_mm512_castps512_ps256(v), (Eight)_mm512_extractf32x8_ps(v, 1));
  return combine((Quad)_mm256_castps256_ps128(eight), (Quad)_mm256_extractf128_ps(eight, 1));
}

#elif FASTPRUNE_WIDTH == 8

FASTPRUNE_INLINE F32 fma(F32 a, F32 b, F32 c) { return _mm256_fmadd_ps(a, b, c); }
FASTPRUNE_INLINE F32 square_root(F32 a) { return _mm256_sqrt_ps(a); }
FASTPRUNE_INLINE F32 max_lanes(F32 a, F32 b) { return _mm256_max_ps(a, b); }
template <class Combine>
FASTPRUNE_INLINE Quad fold(F32 v, const Combine& combine) {
  return combine((Quad)_mm256_castps256_ps128(v), (Quad)_mm256_extractf128_ps(v, 1));
}

#else

FASTPRUNE_INLINE F32 fma(F32 a, F32 b, F32 c) { return a * b + c; }
FASTPRUNE_INLINE F32 square_root(F32 a) {
  for (int i = 0; i < kLanes<float>; ++i) a[i] = __builtin_sqrtf(a[i]);
  return a;
}
FASTPRUNE_INLINE F32 max_lanes(F32 a, F32 b) { return a > b ? a : b; }
template <class Combine>
FASTPRUNE_INLINE Quad fold(F32 v, const Combine&) { return v; }

#endif
#endif

#if FASTPRUNE_WIDTH == 16

template <class T>
using Mask = std::conditional_t<kLanes<T> == 16, __mmask16, __mmask8>;

FASTPRUNE_INLINE __mmask16 above(I32 a, I32 b) { return _mm512_cmpgt_epi32_mask((__m512i)a, (__m512i)b); }
FASTPRUNE_INLINE __mmask8 above(I64 a, I64 b) { return _mm512_cmpgt_epi64_mask((__m512i)a, (__m512i)b); }
FASTPRUNE_INLINE __mmask16 equal(I32 a, I32 b) { return _mm512_cmpeq_epi32_mask((__m512i)a, (__m512i)b); }
FASTPRUNE_INLINE __mmask8 equal(I64 a, I64 b) { return _mm512_cmpeq_epi64_mask((__m512i)a, (__m512i)b); }
FASTPRUNE_INLINE I32 where(__mmask16 mask, I32 a, I32 b) {
  return (I32)_mm512_mask_mov_epi32((__m512i)b, mask, (__m512i)a);
}
FASTPRUNE_INLINE I64 where(__mmask8 mask, I64 a, I64 b) {
  return (I64)_mm512_mask_mov_epi64((__m512i)b, mask, (__m512i)a);
}
FASTPRUNE_INLINE I32 max_lanes(I32 a, I32 b) { return (I32)_mm512_max_epi32((__m512i)a, (__m512i)b); }
FASTPRUNE_INLINE I64 max_lanes(I64 a, I64 b) { return (I64)_mm512_max_epi64((__m512i)a, (__m512i)b); }
FASTPRUNE_INLINE I32 counted(I32 sum, __mmask16 mask) {
  return (I32)_mm512_mask_sub_epi32((__m512i)sum, mask, (__m512i)sum, _mm512_set1_epi32(-1));
}
FASTPRUNE_INLINE I64 counted(I64 sum, __mmask8 mask) {
  return (I64)_mm512_mask_sub_epi64((__m512i)sum, mask, (__m512i)sum, _mm512_set1_epi64(-1));
}

// Why not a cast: where registers are short, GCC 12 may write the predicate register to memory as 1 or 2 bytes and then
// read the integer as 4. It cannot split the explicit move.
template <class T>
FASTPRUNE_INLINE unsigned bits_of(Mask<T> mask) {
  unsigned bits;
  if constexpr (sizeof mask == 2) asm("kmovw %1, %0" : "=r"(bits) : "k"(mask));
  else asm("kmovb %1, %0" : "=r"(bits) : "k"(mask));
  return bits;
}

#elif FASTPRUNE_WIDTH == 8

template <class T>
using Mask = Vec<T>;

template <class V>
FASTPRUNE_INLINE V above(V a, V b) { return (V)(a > b); }
template <class V>
FASTPRUNE_INLINE V equal(V a, V b) { return (V)(a == b); }
template <class T>
FASTPRUNE_INLINE unsigned bits_of(Mask<T> mask) {
  if constexpr (sizeof(T) == 4) return static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps((__m256i)mask)));
  else return static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd((__m256i)mask)));
}

#elif FASTPRUNE_WIDTH == 1

template <class T>
using Mask = Vec<T>;

template <class T>
FASTPRUNE_INLINE T above(T a, T b) { return -static_cast<T>(a > b); }
template <class T>
FASTPRUNE_INLINE T equal(T a, T b) { return -static_cast<T>(a == b); }
template <class T>
FASTPRUNE_INLINE unsigned bits_of(Mask<T> mask) { return static_cast<unsigned>(mask & 1); }

#endif

#if FASTPRUNE_WIDTH == 8 || FASTPRUNE_WIDTH == 1

template <class V>
FASTPRUNE_INLINE V where(V mask, V a, V b) { return (mask & a) | (~mask & b); }
template <class V>
FASTPRUNE_INLINE V max_lanes(V a, V b) { return where(above(a, b), a, b); }
template <class V>
FASTPRUNE_INLINE V counted(V sum, V mask) { return sum - mask; }

#endif

#if FASTPRUNE_WIDTH != 4

template <class T>
FASTPRUNE_INLINE unsigned bits_of(unsigned bits) { return bits; }

#endif

FASTPRUNE_INLINE int count_bits(unsigned bits) { return __builtin_popcount(bits); }

template <class T>
FASTPRUNE_INLINE std::int64_t sum_of_lanes(Vec<T> v) {
  T lane[kLanes<T>];
  __builtin_memcpy(lane, &v, sizeof v);
  std::int64_t sum = 0;
  for (const T x : lane) sum += x;
  return sum;
}
