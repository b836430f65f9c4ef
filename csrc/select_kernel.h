// The two passes of a selection over a range of floats. Included once for each instruction set, with
// FASTPRUNE_WIDTH set to the floats in a register.
//
// Both keep values or indices by moving the wanted lanes of a register to its front and storing all of it: a
// store of selected lanes alone (vpcompress to memory) is slow on Zen 4.

#define FASTPRUNE_INLINE inline __attribute__((always_inline))

#if FASTPRUNE_WIDTH == 16

constexpr int kWidth = 16;
using Vector = __m512;
FASTPRUNE_INLINE Vector load(const float* from) { return _mm512_loadu_ps(from); }
FASTPRUNE_INLINE Vector negated(Vector v) { return _mm512_xor_ps(v, _mm512_set1_ps(-0.0f)); }
FASTPRUNE_INLINE Vector splat(float x) { return _mm512_set1_ps(x); }
FASTPRUNE_INLINE unsigned above(Vector a, Vector b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
FASTPRUNE_INLINE unsigned equal(Vector a, Vector b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
FASTPRUNE_INLINE unsigned nan(Vector a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
// Stores kWidth values, those of `mask` first.
FASTPRUNE_INLINE void store_wanted(float* to, Vector v, unsigned mask) {
  _mm512_storeu_ps(to, _mm512_maskz_compress_ps(static_cast<__mmask16>(mask), v));
}
// Stores kWidth indices, first + lane for the lanes of `mask` before all others.
FASTPRUNE_INLINE void store_indices(std::int64_t* to, std::int64_t first, unsigned mask) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i wanted = _mm512_maskz_compress_epi32(static_cast<__mmask16>(mask), lanes);
  const __m512i base = _mm512_set1_epi64(first);
  const __m512i low = _mm512_cvtepu32_epi64(_mm512_castsi512_si256(wanted));
  const __m512i high = _mm512_cvtepu32_epi64(_mm512_extracti32x8_epi32(wanted, 1));
  _mm512_storeu_si512(to, _mm512_add_epi64(base, low));
  _mm512_storeu_si512(to + 8, _mm512_add_epi64(base, high));
}

#elif FASTPRUNE_WIDTH == 8

constexpr int kWidth = 8;
using Vector = __m256;
FASTPRUNE_INLINE Vector load(const float* from) { return _mm256_loadu_ps(from); }
FASTPRUNE_INLINE Vector negated(Vector v) { return _mm256_xor_ps(v, _mm256_set1_ps(-0.0f)); }
FASTPRUNE_INLINE Vector splat(float x) { return _mm256_set1_ps(x); }
FASTPRUNE_INLINE unsigned above(Vector a, Vector b) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)));
}
FASTPRUNE_INLINE unsigned equal(Vector a, Vector b) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ)));
}
FASTPRUNE_INLINE unsigned nan(Vector a) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, a, _CMP_UNORD_Q)));
}
// The lanes of a mask in order, as bytes of a word.
FASTPRUNE_INLINE __m256i wanted_lanes(unsigned mask) {
  const __m128i bytes = _mm_cvtsi64_si128(static_cast<long long>(kLanesOfMask.word[mask]));
  return _mm256_cvtepu8_epi32(bytes);
}
FASTPRUNE_INLINE void store_wanted(float* to, Vector v, unsigned mask) {
  _mm256_storeu_ps(to, _mm256_permutevar8x32_ps(v, wanted_lanes(mask)));
}
FASTPRUNE_INLINE void store_indices(std::int64_t* to, std::int64_t first, unsigned mask) {
  const __m256i lanes = wanted_lanes(mask), base = _mm256_set1_epi64x(first);
  const __m256i low = _mm256_cvtepu32_epi64(_mm256_castsi256_si128(lanes));
  const __m256i high = _mm256_cvtepu32_epi64(_mm256_extracti128_si256(lanes, 1));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_add_epi64(base, low));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 4), _mm256_add_epi64(base, high));
}

#else

constexpr int kWidth = 1;
using Vector = float;
FASTPRUNE_INLINE Vector load(const float* from) { return *from; }
FASTPRUNE_INLINE Vector negated(Vector v) { return -v; }
FASTPRUNE_INLINE Vector splat(float x) { return x; }
FASTPRUNE_INLINE unsigned above(Vector a, Vector b) { return a > b; }
FASTPRUNE_INLINE unsigned equal(Vector a, Vector b) { return a == b; }
FASTPRUNE_INLINE unsigned nan(Vector a) { return a != a; }
FASTPRUNE_INLINE void store_wanted(float* to, Vector v, unsigned) { *to = v; }
FASTPRUNE_INLINE void store_indices(std::int64_t* to, std::int64_t first, unsigned) { *to = first; }

#endif

FASTPRUNE_INLINE int bits(unsigned mask) { return __builtin_popcount(mask); }

template <bool kSmallest>
FASTPRUNE_INLINE Vector value_at(const float* at) {
  return kSmallest ? negated(load(at)) : load(at);
}

// Sorts [scores, scores + n) by the bracket, and copies what is inside. In place if `inside` is `scores`.
template <bool kSmallest>
Counts count(const float* scores, std::int64_t n, float low, float high, float* inside, std::int64_t capacity) {
  const Vector top = splat(high), bottom = splat(low);
  Counts counts;
  unsigned any_nan = 0;
  std::int64_t kept = 0;
  const auto add = [&](Vector v, unsigned counted) __attribute__((always_inline)) {
    const unsigned over = above(v, top) & counted, at_top = equal(v, top) & counted;
    const unsigned over_bottom = above(v, bottom) & counted;
    const unsigned within = over_bottom & ~(over | at_top);
    any_nan |= nan(v) & counted;
    counts.above += bits(over);
    counts.at_high += bits(at_top);
    counts.at_low += bits(equal(v, bottom) & counted & ~at_top);  // the ends may be one value
    store_wanted(inside + kept, v, within);
    kept += bits(within);
  };
  constexpr unsigned all = kWidth == 1 ? 1u : (1u << kWidth) - 1u;
  std::int64_t i = 0;
  for (; i + kWidth <= n && kept <= capacity; i += kWidth) add(value_at<kSmallest>(scores + i), all);
  if (i < n && kept <= capacity) {
    float rest[kWidth] = {};
    for (std::int64_t j = i; j < n; ++j) rest[j - i] = scores[j];
    add(value_at<kSmallest>(rest), (1u << (n - i)) - 1u);
  }
  counts.inside = kept;
  counts.overflow = kept > capacity;
  counts.nan = any_nan != 0;
  return counts;
}

// Writes the indices of the values above `threshold` and of the first `ties` equal to it, `size` in all.
template <bool kSmallest>
void write(const float* scores, std::int64_t begin, std::int64_t end, float threshold, std::int64_t ties,
           std::int64_t* out, std::int64_t size) {
  const Vector limit = splat(threshold);
  std::int64_t written = 0, i = begin;
  const auto keep = [&](unsigned mask) __attribute__((always_inline)) {
    store_indices(out + written, i, mask);
    written += bits(mask);
  };
  // As long as a whole register fits; what is stored too much is overwritten. First with ties, then without.
  for (; i + kWidth <= end && written + kWidth <= size && ties > 0; i += kWidth) {
    const Vector v = value_at<kSmallest>(scores + i);
    unsigned same = equal(v, limit);
    while (bits(same) > ties) same &= ~(1u << (31 - __builtin_clz(same)));
    ties -= bits(same);
    keep(above(v, limit) | same);
  }
  for (; i + kWidth <= end && written + kWidth <= size; i += kWidth)
    keep(above(value_at<kSmallest>(scores + i), limit));
  for (; i < end && written < size; ++i) {
    const float value = kSmallest ? -scores[i] : scores[i];
    const bool tie = value == threshold && ties > 0;
    ties -= tie;
    if (value > threshold || tie) out[written++] = i;
  }
}

#undef FASTPRUNE_INLINE
