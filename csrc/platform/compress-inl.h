// Compression: the wanted lanes of a register move to its front.
//
// Included once for each instruction set, by platform/simd-inl.h, at widths 1, 8 and 16.
//
//   compress_store(to, v, wanted)                  stores the wanted lanes of v, in order
//   compress_store_indices<T>(to, first, wanted)   stores first + lane for each wanted lane of a Vec<T>, in order
// `wanted` is a Mask<T> or its bits. Both store kLanes<T> elements in all. Those after the wanted ones are unspecified.
//
// Why whole registers: a store of selected lanes alone (vpcompress to memory) is slow on Zen 4.

#if FASTPRUNE_WIDTH == 16

FASTPRUNE_INLINE void compress_store(std::int32_t* to, I32 v, __mmask16 wanted) {
  _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(wanted, (__m512i)v));
}
FASTPRUNE_INLINE void compress_store(std::int64_t* to, I64 v, __mmask8 wanted) {
  _mm512_storeu_si512(to, _mm512_maskz_compress_epi64(wanted, (__m512i)v));
}
template <class T>
FASTPRUNE_INLINE void compress_store_indices(std::int64_t* to, std::int64_t first, Mask<T> wanted) {
  const __m512i base = _mm512_set1_epi64(first);
  if constexpr (kLanes<T> == 16) {
    const __m512i all = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i front = _mm512_maskz_compress_epi32(wanted, all);
    const __m512i low = _mm512_cvtepu32_epi64(_mm512_castsi512_si256(front));
    const __m512i high = _mm512_cvtepu32_epi64(_mm512_extracti32x8_epi32(front, 1));
    _mm512_storeu_si512(to, _mm512_add_epi64(base, low));
    _mm512_storeu_si512(to + 8, _mm512_add_epi64(base, high));
  } else {
    const __m512i all = _mm512_add_epi64(base, _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi64(wanted, all));
  }
}

#elif FASTPRUNE_WIDTH == 8

// The numbers of the wanted lanes, one byte each. (See LanesOfMask in platform/simd.h.)
FASTPRUNE_INLINE __m128i lanes_of(unsigned bits) {
  return _mm_cvtsi64_si128(static_cast<long long>(kLanesOfMask.word[bits]));
}
template <class Wanted>
FASTPRUNE_INLINE void compress_store(std::int32_t* to, I32 v, Wanted wanted) {
  const __m128i lanes = lanes_of(bits_of<std::int32_t>(wanted));
  const __m256i front = _mm256_permutevar8x32_epi32((__m256i)v, _mm256_cvtepu8_epi32(lanes));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), front);
}
template <class Wanted>
FASTPRUNE_INLINE void compress_store(std::int64_t* to, I64 v, Wanted wanted) {
  // Lane i of 64 bits is lanes 2 i and 2 i + 1 of 32 bits.
  const __m256i halves = _mm256_slli_epi64(_mm256_cvtepu8_epi64(lanes_of(bits_of<std::int64_t>(wanted))), 1);
  const __m256i both = _mm256_or_si256(halves, _mm256_slli_epi64(halves, 32));
  const __m256i places = _mm256_add_epi64(both, _mm256_set1_epi64x(1ll << 32));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_permutevar8x32_epi32((__m256i)v, places));
}
template <class T, class Wanted>
FASTPRUNE_INLINE void compress_store_indices(std::int64_t* to, std::int64_t first, Wanted wanted) {
  const __m128i lanes = lanes_of(bits_of<T>(wanted));
  const __m256i base = _mm256_set1_epi64x(first);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_add_epi64(base, _mm256_cvtepu8_epi64(lanes)));
  if constexpr (kLanes<T> == 8) {
    const __m256i high = _mm256_cvtepu8_epi64(_mm_srli_si128(lanes, 4));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 4), _mm256_add_epi64(base, high));
  }
}

#else

template <class T, class Wanted>
FASTPRUNE_INLINE void compress_store(T* to, T v, Wanted) { *to = v; }
template <class T, class Wanted>
FASTPRUNE_INLINE void compress_store_indices(std::int64_t* to, std::int64_t first, Wanted) { *to = first; }

#endif
