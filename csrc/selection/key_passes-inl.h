// Passes over keys that lie side by side. selection/passes.h says what each does.
//
// Included once for each instruction set, by selection/passes-inl.h.

template <class Key>
Tally tally(const Key* keys, std::int64_t n, Key pivot) {
  const Vec<Key> middle = splat(pivot);
  Tally total;
  constexpr std::int64_t most = std::int64_t{1} << 30;  // a lane counts no further than 2^31
  std::int64_t i = 0;
  while (i + kLanes<Key> <= n) {
    Vec<Key> over{}, same{};
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

// Moves the keys above the pivot (or below it) to the front, in order. Returns how many they are. n must be a multiple
// of kLanes<Key>.
template <bool kAbove, class Key>
std::int64_t keep(Key* keys, std::int64_t n, Key pivot) {
  const Vec<Key> middle = splat(pivot);
  std::int64_t kept = 0;
  for (std::int64_t i = 0; i < n; i += kLanes<Key>) {
    const Vec<Key> v = load(keys + i);
    const Mask<Key> wanted = kAbove ? above(v, middle) : above(middle, v);
    compress_store(keys + kept, v, wanted);
    kept += count_bits(bits_of<Key>(wanted));
  }
  return kept;
}

// A quickselect. Each pivot is the median of three keys, from places that look random: no pattern in the keys meets
// them.
template <class Key>
Threshold<Key> kth_largest(Key* keys, std::int64_t n, std::int64_t k) {
  std::uint64_t state = 0x9e3779b97f4a7c15u;
  const auto any = [&] {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return keys[static_cast<std::int64_t>((state >> 20) % static_cast<std::uint64_t>(n))];
  };
  for (;;) {
    // The last register is filled up with the lowest key, which does not change the k-th largest.
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
