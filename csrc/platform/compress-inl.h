// Compression: the wanted lanes of a register move to its front.
//
// Included once for each instruction set, by platform/simd-inl.h, at widths 1, 8 and 16.
//
//   compress_store(to, v, bits)                      stores the lanes of v whose bit is set, in order
//   compress_store_indices<lanes>(to, first, bits)   stores first + lane for each set bit, in order
// Both store kLanes elements in all. The elements after the wanted ones are unspecified.
//
// Why whole registers: a store of selected lanes alone (vpcompress to memory) is slow on Zen 4.

#if FASTPRUNE_WIDTH == 16

FASTPRUNE_INLINE void compress_store(std::int32_t* to, I32 v, unsigned bits) {
  _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(static_cast<__mmask16>(bits), (__m512i)v));
}
FASTPRUNE_INLINE void compress_store(std::int64_t* to, I64 v, unsigned bits) {
  _mm512_storeu_si512(to, _mm512_maskz_compress_epi64(static_cast<__mmask8>(bits), (__m512i)v));
}
template <int lanes>
FASTPRUNE_INLINE void compress_store_indices(std::int64_t* to, std::int64_t first, unsigned bits) {
  const __m512i base = _mm512_set1_epi64(first);
  if constexpr (lanes == 16) {
    const __m512i all = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i wanted = _mm512_maskz_compress_epi32(static_cast<__mmask16>(bits), all);
    const __m512i low = _mm512_cvtepu32_epi64(_mm512_castsi512_si256(wanted));
    const __m512i high = _mm512_cvtepu32_epi64(_mm512_extracti32x8_epi32(wanted, 1));
    _mm512_storeu_si512(to, _mm512_add_epi64(base, low));
    _mm512_storeu_si512(to + 8, _mm512_add_epi64(base, high));
  } else {
    const __m512i all = _mm512_add_epi64(base, _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi64(static_cast<__mmask8>(bits), all));
  }
}

#elif FASTPRUNE_WIDTH == 8

// The numbers of the set lanes, one byte each. (See LanesOfMask in platform/simd.h.)
FASTPRUNE_INLINE __m128i wanted_lanes(unsigned bits) {
  return _mm_cvtsi64_si128(static_cast<long long>(kLanesOfMask.word[bits]));
}
FASTPRUNE_INLINE void compress_store(std::int32_t* to, I32 v, unsigned bits) {
  const __m256i front = _mm256_permutevar8x32_epi32((__m256i)v, _mm256_cvtepu8_epi32(wanted_lanes(bits)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), front);
}
FASTPRUNE_INLINE void compress_store(std::int64_t* to, I64 v, unsigned bits) {
  // Lane i of 64 bits is lanes 2 i and 2 i + 1 of 32 bits.
  const __m256i halves = _mm256_slli_epi64(_mm256_cvtepu8_epi64(wanted_lanes(bits)), 1);
  const __m256i both = _mm256_or_si256(halves, _mm256_slli_epi64(halves, 32));
  const __m256i places = _mm256_add_epi64(both, _mm256_set1_epi64x(1ll << 32));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_permutevar8x32_epi32((__m256i)v, places));
}
template <int lanes>
FASTPRUNE_INLINE void compress_store_indices(std::int64_t* to, std::int64_t first, unsigned bits) {
  const __m128i wanted = wanted_lanes(bits);
  const __m256i base = _mm256_set1_epi64x(first);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_add_epi64(base, _mm256_cvtepu8_epi64(wanted)));
  if constexpr (lanes == 8) {
    const __m256i high = _mm256_cvtepu8_epi64(_mm_srli_si128(wanted, 4));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 4), _mm256_add_epi64(base, high));
  }
}

#else

template <class T>
FASTPRUNE_INLINE void compress_store(T* to, T v, unsigned) { *to = v; }
template <int lanes>
FASTPRUNE_INLINE void compress_store_indices(std::int64_t* to, std::int64_t first, unsigned) { *to = first; }

#endif
