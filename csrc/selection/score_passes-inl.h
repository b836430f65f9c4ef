// Passes over a block of scores. selection/passes.h says what each does.
//
// Included once for each instruction set, by selection/passes-inl.h.
//
// Each pass works on whole registers. What is left of the block goes to the same pass of the namespace portable, whose
// registers hold one key.

template <class K>
bool write_keys(const char* block, std::int64_t n, Order<typename K::Key> order, typename K::Key* out) {
  using Key = typename K::Key;
  NanWatch<K> watch;
  std::int64_t i = 0;
  bool rest = false;
  for (; i + kLanes<Key> <= n; i += kLanes<Key>)
    store(out + i, keys_at<K, true>(block + i * K::kSize, order, watch));
  if constexpr (kLanes<Key> > 1)
    if (i < n) rest = portable::write_keys<K>(block + i * K::kSize, n - i, order, out + i);
  return watch.seen() || rest;
}

template <class K, bool kNan>
Counts count(const char* block, std::int64_t n, Order<typename K::Key> order, typename K::Key low,
             typename K::Key high, typename K::Key* inside) {
  using Key = typename K::Key;
  const Vec<Key> top = splat(high), bottom = splat(low);
  Vec<Key> over{}, at_top{};
  NanWatch<K> watch;
  std::int64_t i = 0, kept = 0;
  for (; i + kLanes<Key> <= n; i += kLanes<Key>) {
    const Vec<Key> keys = keys_at<K, kNan>(block + i * K::kSize, order, watch);
    const Mask<Key> above_top = above(keys, top), is_top = equal(keys, top);
    over = counted(over, above_top);
    at_top = counted(at_top, is_top);
    const Mask<Key> within = above(keys, bottom) & ~(above_top | is_top);
    compress_store(inside + kept, keys, within);
    kept += count_bits(bits_of<Key>(within));
  }
  Counts counts{sum_of_lanes<Key>(over), sum_of_lanes<Key>(at_top), kept, watch.seen()};
  if constexpr (kLanes<Key> > 1)
    if (i < n) counts += portable::count<K, kNan>(block + i * K::kSize, n - i, order, low, high, inside + kept);
  return counts;
}

// A first look at up to 64 registers of scores: which lanes are wanted, and which registers hold wanted lanes. Where
// these are few, only they are stored. A store across two lines of the cache costs more than a second look.
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
    const unsigned bits = bits_of<typename K::Key>(want(keys_at<K, kNan>(block + r * lanes * K::kSize, order, watch)));
    found.wanted[r] = static_cast<std::uint16_t>(bits);
    found.some |= static_cast<std::uint64_t>(bits != 0) << r;
  }
  return found;
}

template <class K, bool kNan>
Counts collect(const char* block, std::int64_t n, Order<typename K::Key> order, typename K::Key low,
               typename K::Key first, typename K::Key* keys_out, typename K::Key* places_out) {
  using Key = typename K::Key;
  const Vec<Key> bottom = splat(low);
  Key lane[kLanes<Key>];
  for (int j = 0; j < kLanes<Key>; ++j) lane[j] = first + static_cast<Key>(j);
  const Vec<Key> places = load(lane);
  NanWatch<K> watch;
  std::int64_t i = 0, kept = 0;
  while (i + kLanes<Key> <= n) {
    const auto want = [&](Vec<Key> keys) FASTPRUNE_INLINE_LAMBDA -> Mask<Key> {
      return above(keys, bottom) | equal(keys, bottom);
    };
    Look found = look<K, kNan>(block + i * K::kSize, n - i, order, watch, want);
    for (; found.some != 0; found.some &= found.some - 1) {
      const int r = __builtin_ctzll(found.some);
      const std::int64_t at = i + r * kLanes<Key>;
      const unsigned wanted = found.wanted[r];
      compress_store(keys_out + kept, keys_at<K, kNan>(block + at * K::kSize, order, watch), wanted);
      compress_store(places_out + kept, places + splat(static_cast<Key>(at)), wanted);
      kept += count_bits(wanted);
    }
    i += found.registers * kLanes<Key>;
  }
  Counts counts{0, 0, kept, watch.seen()};
  if constexpr (kLanes<Key> > 1)
    if (i < n)
      counts += portable::collect<K, kNan>(block + i * K::kSize, n - i, order, low, first + static_cast<Key>(i),
                                           keys_out + kept, places_out + kept);
  return counts;
}

template <class K, bool kNan>
std::int64_t write_indices(const char* block, std::int64_t n, Order<typename K::Key> order,
                           typename K::Key threshold, std::int64_t& ties, bool sparse, std::int64_t first,
                           std::int64_t* out, std::int64_t room) {
  using Key = typename K::Key;
  constexpr int lanes = kLanes<Key>;
  const Vec<Key> limit = splat(threshold);
  NanWatch<K> watch;
  std::int64_t written = 0, i = 0;
  const auto keys_here = [&]() FASTPRUNE_INLINE_LAMBDA {
    return keys_at<K, kNan>(block + i * K::kSize, order, watch);
  };
  const auto with_ties = [&](Vec<Key> keys) FASTPRUNE_INLINE_LAMBDA {
    unsigned same = bits_of<Key>(equal(keys, limit));
    while (count_bits(same) > ties) same &= ~(1u << (31 - __builtin_clz(same)));
    ties -= count_bits(same);
    return bits_of<Key>(above(keys, limit)) | same;
  };
  const auto keep = [&](auto wanted) FASTPRUNE_INLINE_LAMBDA {
    const unsigned bits = bits_of<Key>(wanted);
    if (sparse && bits == 0) return;
    compress_store_indices<Key>(out + written, first + i, wanted);
    written += count_bits(bits);
  };
  // Whole registers are stored as long as one fits, first with ties and then without. The next store overwrites what
  // was stored too much.
  for (; i + lanes <= n && written + lanes <= room && ties > 0; i += lanes) keep(with_ties(keys_here()));
  for (; i + lanes <= n && written + lanes <= room; i += lanes) keep(above(keys_here(), limit));
  // The last few indices are stored one by one. They may lie far apart.
  for (; i + lanes <= n && written < room; i += lanes)
    for (unsigned bits = with_ties(keys_here()); bits != 0 && written < room; bits &= bits - 1)
      out[written++] = first + i + __builtin_ctz(bits);
  if constexpr (lanes > 1)
    if (i < n && written < room)
      written += portable::write_indices<K, kNan>(block + i * K::kSize, n - i, order, threshold, ties, sparse,
                                                  first + i, out + written, room - written);
  return written;
}
