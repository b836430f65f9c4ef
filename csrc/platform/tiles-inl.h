// Tiles: as many rows as a register has floats, by up to as many columns, turned so that a register holds a column.
//
// Included once for each instruction set, by platform/simd-inl.h, at widths 4, 8 and 16.
//
//   transpose(v)                       element j of v[i] goes to element i of v[j]
//   load_tile(rows, column, n, tile)   columns column .. column + n - 1 of the rows, as floats: column + i in tile[i].
//                                      1 <= n <= kLanes<float>. No element outside of these columns is read. The
//                                      registers after the first n are unspecified.
//
// Cost: about a quarter of an operation for each element.

#if FASTPRUNE_WIDTH == 16

// Pairs of elements, then pairs of those, then fours, then eights.
FASTPRUNE_INLINE void transpose(F32 (&v)[16]) {
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

// The first n elements, 0 < n <= 4, and zeros. No more is read.
FASTPRUNE_INLINE Quad load_quad(const float* from, int n) {
  return _mm_maskz_loadu_ps(static_cast<__mmask8>((1u << n) - 1u), from);
}
template <class Element>
FASTPRUNE_INLINE Quad load_quad(const Element* from, int n) {
  const __m128i bits = _mm_maskz_loadu_epi16(static_cast<__mmask8>((1u << n) - 1u), from);
  if constexpr (std::is_same_v<Element, Half>) return _mm_cvtph_ps(bits);
  return _mm_castsi128_ps(_mm_slli_epi32(_mm_cvtepu16_epi32(bits), 16));
}
// Four columns of sixteen rows, of which n are wanted. It takes a third of the shuffles that transpose() takes.
template <class Element>
FASTPRUNE_INLINE void load_four_columns(const Element* const* rows, std::int64_t column, int n, F32* v) {
  __m512 a[4];
  for (int i = 0; i < 4; ++i) {
    const auto quad = [&](int lane) FASTPRUNE_INLINE_LAMBDA { return load_quad(rows[4 * lane + i] + column, n); };
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

FASTPRUNE_INLINE void transpose(F32 (&v)[8]) {
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

FASTPRUNE_INLINE void transpose(F32 (&v)[4]) {
  const F32 w[4] = {v[0], v[1], v[2], v[3]};
  for (int i = 0; i < 4; ++i) v[i] = F32{w[0][i], w[1][i], w[2][i], w[3][i]};
}

#endif

template <class Element>
FASTPRUNE_INLINE void load_tile(const Element* const* rows, std::int64_t column, int n, F32 (&tile)[kLanes<float>]) {
#if FASTPRUNE_WIDTH == 16
  if (n <= 8) {
    load_four_columns(rows, column, n < 4 ? n : 4, tile);
    if (n > 4) load_four_columns(rows, column + 4, n - 4, tile + 4);
    return;
  }
#endif
  for (int i = 0; i < kLanes<float>; ++i)
    tile[i] = n == kLanes<float> ? load(rows[i] + column) : load_first(rows[i] + column, n);
  transpose(tile);
}
