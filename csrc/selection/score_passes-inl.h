// The passes of a selection over a block of scores or keys. Included once for each instruction set, with
// FASTPRUNE_WIDTH set to the 32-bit keys in a register.
//
// Keys or indices are kept by moving the wanted lanes of a register to its front and storing all of it: a
// store of selected lanes alone (vpcompress to memory) is slow on Zen 4.

#define FASTPRUNE_INLINE inline __attribute__((always_inline))
#define FASTPRUNE_LAMBDA __attribute__((always_inline))

#if FASTPRUNE_WIDTH == 1
typedef std::int32_t Int32s;
typedef std::int64_t Int64s;
#else
typedef std::int32_t Int32s __attribute__((vector_size(4 * FASTPRUNE_WIDTH)));
typedef std::int64_t Int64s __attribute__((vector_size(4 * FASTPRUNE_WIDTH)));
#endif

template <class Key>
struct VectorOf { using Type = Int32s; };
template <>
struct VectorOf<std::int64_t> { using Type = Int64s; };
template <class Key>
using Vector = typename VectorOf<Key>::Type;
template <class Key>
constexpr int kLanes = static_cast<int>(sizeof(Vector<Key>) / sizeof(Key));

// A mask has a type of its own: predicate registers (AVX-512), or lanes of all ones.
//   counted(sum, mask)   sum + 1 in the lanes of the mask
//   where(mask, a, b)    a in the lanes of the mask, b elsewhere
//   larger(a, b)         the larger of each pair of lanes
//   bits(mask)           a bit a lane
// store_wanted and store_indices store kLanes keys, or first + lane, those of the set bits first.

#if FASTPRUNE_WIDTH == 16

FASTPRUNE_INLINE __mmask16 above(Int32s a, Int32s b) { return _mm512_cmpgt_epi32_mask((__m512i)a, (__m512i)b); }
FASTPRUNE_INLINE __mmask8 above(Int64s a, Int64s b) { return _mm512_cmpgt_epi64_mask((__m512i)a, (__m512i)b); }
FASTPRUNE_INLINE __mmask16 equal(Int32s a, Int32s b) { return _mm512_cmpeq_epi32_mask((__m512i)a, (__m512i)b); }
FASTPRUNE_INLINE __mmask8 equal(Int64s a, Int64s b) { return _mm512_cmpeq_epi64_mask((__m512i)a, (__m512i)b); }
FASTPRUNE_INLINE Int32s counted(Int32s sum, __mmask16 mask) {
  return (Int32s)_mm512_mask_sub_epi32((__m512i)sum, mask, (__m512i)sum, _mm512_set1_epi32(-1));
}
FASTPRUNE_INLINE Int64s counted(Int64s sum, __mmask8 mask) {
  return (Int64s)_mm512_mask_sub_epi64((__m512i)sum, mask, (__m512i)sum, _mm512_set1_epi64(-1));
}
FASTPRUNE_INLINE Int32s where(__mmask16 mask, Int32s a, Int32s b) {
  return (Int32s)_mm512_mask_mov_epi32((__m512i)b, mask, (__m512i)a);
}
FASTPRUNE_INLINE Int64s where(__mmask8 mask, Int64s a, Int64s b) {
  return (Int64s)_mm512_mask_mov_epi64((__m512i)b, mask, (__m512i)a);
}
FASTPRUNE_INLINE Int32s larger(Int32s a, Int32s b) { return (Int32s)_mm512_max_epi32((__m512i)a, (__m512i)b); }
FASTPRUNE_INLINE Int64s larger(Int64s a, Int64s b) { return (Int64s)_mm512_max_epi64((__m512i)a, (__m512i)b); }
FASTPRUNE_INLINE unsigned bits(unsigned mask) { return mask; }

FASTPRUNE_INLINE void store_wanted(std::int32_t* to, Int32s v, unsigned mask) {
  _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(static_cast<__mmask16>(mask), (__m512i)v));
}
FASTPRUNE_INLINE void store_wanted(std::int64_t* to, Int64s v, unsigned mask) {
  _mm512_storeu_si512(to, _mm512_maskz_compress_epi64(static_cast<__mmask8>(mask), (__m512i)v));
}
template <int lanes>
FASTPRUNE_INLINE void store_indices(std::int64_t* to, std::int64_t first, unsigned mask) {
  const __m512i base = _mm512_set1_epi64(first);
  if constexpr (lanes == 16) {
    const __m512i all = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i wanted = _mm512_maskz_compress_epi32(static_cast<__mmask16>(mask), all);
    const __m512i low = _mm512_cvtepu32_epi64(_mm512_castsi512_si256(wanted));
    const __m512i high = _mm512_cvtepu32_epi64(_mm512_extracti32x8_epi32(wanted, 1));
    _mm512_storeu_si512(to, _mm512_add_epi64(base, low));
    _mm512_storeu_si512(to + 8, _mm512_add_epi64(base, high));
  } else {
    const __m512i all = _mm512_add_epi64(base, _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi64(static_cast<__mmask8>(mask), all));
  }
}

#elif FASTPRUNE_WIDTH == 8

FASTPRUNE_INLINE unsigned bits(Int32s mask) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps((__m256i)mask)));
}
FASTPRUNE_INLINE unsigned bits(Int64s mask) {
  return static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd((__m256i)mask)));
}
FASTPRUNE_INLINE __m128i wanted_lanes(unsigned mask) {
  return _mm_cvtsi64_si128(static_cast<long long>(kLanesOfMask.word[mask]));
}
FASTPRUNE_INLINE void store_wanted(std::int32_t* to, Int32s v, unsigned mask) {
  const __m256i front = _mm256_permutevar8x32_epi32((__m256i)v, _mm256_cvtepu8_epi32(wanted_lanes(mask)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), front);
}
FASTPRUNE_INLINE void store_wanted(std::int64_t* to, Int64s v, unsigned mask) {
  const __m256i halves = _mm256_slli_epi64(_mm256_cvtepu8_epi64(wanted_lanes(mask)), 1);
  const __m256i both = _mm256_or_si256(halves, _mm256_slli_epi64(halves, 32));
  const __m256i places = _mm256_add_epi64(both, _mm256_set1_epi64x(1ll << 32));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_permutevar8x32_epi32((__m256i)v, places));
}
template <int lanes>
FASTPRUNE_INLINE void store_indices(std::int64_t* to, std::int64_t first, unsigned mask) {
  const __m128i wanted = wanted_lanes(mask);
  const __m256i base = _mm256_set1_epi64x(first);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_add_epi64(base, _mm256_cvtepu8_epi64(wanted)));
  if constexpr (lanes == 8) {
    const __m256i high = _mm256_cvtepu8_epi64(_mm_srli_si128(wanted, 4));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 4), _mm256_add_epi64(base, high));
  }
}

#else

template <class Key>
FASTPRUNE_INLINE Key above(Key a, Key b) { return -static_cast<Key>(a > b); }
template <class Key>
FASTPRUNE_INLINE Key equal(Key a, Key b) { return -static_cast<Key>(a == b); }
template <class Key>
FASTPRUNE_INLINE unsigned bits(Key mask) { return static_cast<unsigned>(mask & 1); }
template <class Key>
FASTPRUNE_INLINE void store_wanted(Key* to, Key v, unsigned) { *to = v; }
template <int lanes>
FASTPRUNE_INLINE void store_indices(std::int64_t* to, std::int64_t first, unsigned) { *to = first; }

#endif

#if FASTPRUNE_WIDTH == 8
template <class V>
FASTPRUNE_INLINE V above(V a, V b) { return (V)(a > b); }
template <class V>
FASTPRUNE_INLINE V equal(V a, V b) { return (V)(a == b); }
#endif
#if FASTPRUNE_WIDTH <= 8
template <class V>
FASTPRUNE_INLINE V counted(V sum, V mask) { return sum - mask; }
template <class V>
FASTPRUNE_INLINE V where(V mask, V a, V b) { return (mask & a) | (~mask & b); }
template <class V>
FASTPRUNE_INLINE V larger(V a, V b) { return where(above(a, b), a, b); }
#endif

FASTPRUNE_INLINE int count_bits(unsigned mask) { return __builtin_popcount(mask); }

template <class Key>
FASTPRUNE_INLINE Vector<Key> splat(Key x) { return x - Vector<Key>{}; }

template <class Key>
FASTPRUNE_INLINE std::int64_t sum_of_lanes(Vector<Key> v) {
  Key lane[kLanes<Key>];
  __builtin_memcpy(lane, &v, sizeof v);
  std::int64_t sum = 0;
  for (const Key x : lane) sum += x;
  return sum;
}

template <class Key>
FASTPRUNE_INLINE Vector<Key> load(const Key* from) {
  Vector<Key> v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}

template <class K>
FASTPRUNE_INLINE Vector<typename K::Key> widened(const char* from) {
  using Key = typename K::Key;
#if FASTPRUNE_WIDTH == 1
  typename K::Stored x;
  __builtin_memcpy(&x, from, sizeof x);
  return static_cast<Key>(x);
#else
  typedef typename K::Stored Narrow __attribute__((vector_size(kLanes<Key> * K::kSize)));
  Narrow narrow;
  __builtin_memcpy(&narrow, from, sizeof narrow);
  return __builtin_convertvector(narrow, Vector<Key>);
#endif
}

// Finds out whether any score is NaN: of floats the largest magnitude tells.
template <class K>
struct NanWatch {
  using Key = typename K::Key;
  Vector<Key> magnitude{};
  bool seen() const { return K::kIsFloat && bits(above(magnitude, splat(K::kInfinity))) != 0; }
};

// The keys of kLanes scores. Without kNan the keys of NaN are none: it is for scores that have not been seen to
// hold any, which takes a third off the work.
template <class K, bool kNan>
FASTPRUNE_INLINE Vector<typename K::Key> keys_at(const char* from, Order<typename K::Key> order, NanWatch<K>& watch) {
  using Key = typename K::Key;
  const Vector<Key> raw = widened<K>(from);
  if constexpr (!K::kIsFloat) return raw ^ splat(order.flip);
  const Vector<Key> magnitude = raw & splat(K::kMagnitude), sign = raw >> (8 * static_cast<int>(sizeof(Key)) - 1);
  watch.magnitude = larger(magnitude, watch.magnitude);
  const Vector<Key> keys = ((magnitude ^ sign) - sign) ^ splat(order.flip);
  if constexpr (!kNan) return keys;
  return where(above(magnitude, splat(K::kInfinity)), splat(order.nan), keys);
}

// Writes the n keys of a block; returns whether there is a NaN.
template <class K>
bool write_keys(const char* block, std::int64_t n, Order<typename K::Key> order, typename K::Key* out) {
  using Key = typename K::Key;
  NanWatch<K> watch;
  std::int64_t i = 0;
  bool rest = false;
  for (; i + kLanes<Key> <= n; i += kLanes<Key>) {
    const Vector<Key> keys = keys_at<K, true>(block + i * K::kSize, order, watch);
    __builtin_memcpy(out + i, &keys, sizeof keys);
  }
#if FASTPRUNE_WIDTH > 1
  if (i < n) rest = portable::write_keys<K>(block + i * K::kSize, n - i, order, out + i);
#endif
  return watch.seen() || rest;
}

// Sorts a block of at most 2^30 scores by the bracket, and copies the keys strictly inside it.
template <class K, bool kNan>
Counts count(const char* block, std::int64_t n, Order<typename K::Key> order, typename K::Key low,
             typename K::Key high, typename K::Key* inside) {
  using Key = typename K::Key;
  const Vector<Key> top = splat(high), bottom = splat(low);
  Vector<Key> over{}, at_top{};
  NanWatch<K> watch;
  std::int64_t i = 0, kept = 0;
  for (; i + kLanes<Key> <= n; i += kLanes<Key>) {
    const Vector<Key> keys = keys_at<K, kNan>(block + i * K::kSize, order, watch);
    const auto above_top = above(keys, top), is_top = equal(keys, top);
    over = counted(over, above_top);
    at_top = counted(at_top, is_top);
    const unsigned within = bits(above(keys, bottom)) & ~(bits(above_top) | bits(is_top));
    store_wanted(inside + kept, keys, within);
    kept += count_bits(within);
  }
  Counts counts{sum_of_lanes<Key>(over), sum_of_lanes<Key>(at_top), kept, watch.seen()};
#if FASTPRUNE_WIDTH > 1
  if (i < n) counts += portable::count<K, kNan>(block + i * K::kSize, n - i, order, low, high, inside + kept);
#endif
  return counts;
}

// A first look at as many as 64 registers of scores: which lanes are wanted, and in which registers there are some.
// Where few are, only those registers are stored: a store across two lines of the cache costs more than a second look.
struct Look {
  std::int64_t registers;
  std::uint64_t some = 0;
  std::uint16_t wanted[64];
};
template <class K, bool kNan, class Want>
FASTPRUNE_INLINE Look look(const char* block, std::int64_t n, Order<typename K::Key> order, NanWatch<K>& watch,
                           const Want& want) {
  constexpr std::int64_t lanes = kLanes<typename K::Key>;
  Look found;
  found.registers = std::min<std::int64_t>(n / lanes, 64);
  for (std::int64_t r = 0; r < found.registers; ++r) {
    const unsigned mask = want(keys_at<K, kNan>(block + r * lanes * K::kSize, order, watch));
    found.wanted[r] = static_cast<std::uint16_t>(mask);
    found.some |= static_cast<std::uint64_t>(mask != 0) << r;
  }
  return found;
}

// Copies the keys of a block from `low` on, and for each `first` + i.
template <class K, bool kNan>
Counts collect(const char* block, std::int64_t n, Order<typename K::Key> order, typename K::Key low,
               typename K::Key first, typename K::Key* keys_out, typename K::Key* places_out) {
  using Key = typename K::Key;
  const Vector<Key> bottom = splat(low);
  Key lane[kLanes<Key>];
  for (int j = 0; j < kLanes<Key>; ++j) lane[j] = first + static_cast<Key>(j);
  const Vector<Key> places = load(lane);
  NanWatch<K> watch;
  std::int64_t i = 0, kept = 0;
  while (i + kLanes<Key> <= n) {
    Look found = look<K, kNan>(block + i * K::kSize, n - i, order, watch, [&](Vector<Key> keys) FASTPRUNE_LAMBDA {
      return bits(above(keys, bottom)) | bits(equal(keys, bottom));
    });
    for (; found.some != 0; found.some &= found.some - 1) {
      const int r = __builtin_ctzll(found.some);
      const std::int64_t at = i + r * kLanes<Key>;
      store_wanted(keys_out + kept, keys_at<K, kNan>(block + at * K::kSize, order, watch), found.wanted[r]);
      store_wanted(places_out + kept, places + splat(static_cast<Key>(at)), found.wanted[r]);
      kept += count_bits(found.wanted[r]);
    }
    i += found.registers * kLanes<Key>;
  }
  Counts counts{0, 0, kept, watch.seen()};
#if FASTPRUNE_WIDTH > 1
  if (i < n)
    counts += portable::collect<K, kNan>(block + i * K::kSize, n - i, order, low, first + static_cast<Key>(i),
                                         keys_out + kept, places_out + kept);
#endif
  return counts;
}

// Writes `first` + i for the keys of a block above `threshold` and, as long as `ties` lasts, equal to it; at most
// `room`. Returns how many. `sparse`: most registers hold no such key.
template <class K, bool kNan>
std::int64_t write_indices(const char* block, std::int64_t n, Order<typename K::Key> order,
                           typename K::Key threshold, std::int64_t& ties, bool sparse, std::int64_t first,
                           std::int64_t* out, std::int64_t room) {
  using Key = typename K::Key;
  constexpr int lanes = kLanes<Key>;
  const Vector<Key> limit = splat(threshold);
  NanWatch<K> watch;
  std::int64_t written = 0, i = 0;
  const auto keys_here = [&]() FASTPRUNE_LAMBDA {
    return keys_at<K, kNan>(block + i * K::kSize, order, watch);
  };
  const auto with_ties = [&](Vector<Key> keys) FASTPRUNE_LAMBDA {
    unsigned same = bits(equal(keys, limit));
    while (count_bits(same) > ties) same &= ~(1u << (31 - __builtin_clz(same)));
    ties -= count_bits(same);
    return bits(above(keys, limit)) | same;
  };
  const auto keep = [&](unsigned mask) FASTPRUNE_LAMBDA {
    if (sparse && mask == 0) return;
    store_indices<lanes>(out + written, first + i, mask);
    written += count_bits(mask);
  };
  // As long as a whole register fits; what is stored too much is overwritten. First with ties, then without.
  for (; i + lanes <= n && written + lanes <= room && ties > 0; i += lanes) keep(with_ties(keys_here()));
  for (; i + lanes <= n && written + lanes <= room; i += lanes) keep(bits(above(keys_here(), limit)));
  // The last few one by one: they may lie far apart.
  for (; i + lanes <= n && written < room; i += lanes)
    for (unsigned mask = with_ties(keys_here()); mask != 0 && written < room; mask &= mask - 1)
      out[written++] = first + i + __builtin_ctz(mask);
#if FASTPRUNE_WIDTH > 1
  if (i < n && written < room)
    written += portable::write_indices<K, kNan>(block + i * K::kSize, n - i, order, threshold, ties, sparse,
                                                first + i, out + written, room - written);
#endif
  return written;
}

template <class Key>
Tally tally(const Key* keys, std::int64_t n, Key pivot) {
  const Vector<Key> middle = splat(pivot);
  Tally total;
  constexpr std::int64_t most = std::int64_t{1} << 30;  // a lane counts no further than 2^31
  std::int64_t i = 0;
  while (i + kLanes<Key> <= n) {
    Vector<Key> over{}, same{};
    for (const std::int64_t end = std::min(n, i + most); i + kLanes<Key> <= end; i += kLanes<Key>) {
      over = counted(over, above(load(keys + i), middle));
      same = counted(same, equal(load(keys + i), middle));
    }
    total.above += sum_of_lanes<Key>(over);
    total.equal += sum_of_lanes<Key>(same);
  }
  for (; i < n; ++i) {
    total.above += keys[i] > pivot;
    total.equal += keys[i] == pivot;
  }
  return total;
}

// Moves the keys above (or below) the pivot to the front, in order; n is a multiple of kLanes. Returns how many.
template <bool kAbove, class Key>
std::int64_t keep(Key* keys, std::int64_t n, Key pivot) {
  const Vector<Key> middle = splat(pivot);
  std::int64_t kept = 0;
  for (std::int64_t i = 0; i < n; i += kLanes<Key>) {
    const Vector<Key> v = load(keys + i);
    const unsigned wanted = bits(kAbove ? above(v, middle) : above(middle, v));
    store_wanted(keys + kept, v, wanted);
    kept += count_bits(wanted);
  }
  return kept;
}

// The k-th largest of n keys, 1 <= k <= n, which it overwrites; there is room for kRegister more. A quickselect
// whose pivots are taken at places that no pattern in the keys meets.
template <class Key>
Threshold<Key> kth_largest(Key* keys, std::int64_t n, std::int64_t k) {
  std::uint64_t state = 0x9e3779b97f4a7c15u;
  const auto any = [&] {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return keys[static_cast<std::int64_t>((state >> 20) % static_cast<std::uint64_t>(n))];
  };
  for (;;) {
    // Filled up with the lowest key, which changes no k-th largest.
    const std::int64_t whole = (n + kLanes<Key> - 1) / kLanes<Key> * kLanes<Key>;
    std::fill(keys + n, keys + whole, kLowest<Key>);
    const Key a = any(), b = any(), c = any();
    const Key pivot = std::max(std::min(a, b), std::min(std::max(a, b), c));
    const Tally t = tally(keys, whole, pivot);
    if (k <= t.above) {
      n = keep<true>(keys, whole, pivot);
    } else if (k <= t.above + t.equal) {
      return {pivot, k - t.above};
    } else {
      keep<false>(keys, whole, pivot);
      k -= t.above + t.equal;
      n -= t.above + t.equal;
    }
  }
}

template <class K>
Passes<K> passes(bool nan) {
  if (nan && K::kIsFloat) return {write_keys<K>, count<K, true>, collect<K, true>, write_indices<K, true>};
  return {write_keys<K>, count<K, false>, collect<K, false>, write_indices<K, false>};
}

template <class Key>
KeyPasses<Key> key_passes() { return {tally<Key>, kth_largest<Key>}; }

#undef FASTPRUNE_INLINE
#undef FASTPRUNE_LAMBDA
