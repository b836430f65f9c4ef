// Registers of keys from scores in memory.
//
// Included once for each instruction set, by selection/passes-inl.h. K is a kind of scores (selection/keys.h).

// Finds out whether a score is NaN: the largest magnitude of floats tells.
template <class K>
struct NanWatch {
  using Key = typename K::Key;
  Vec<Key> magnitude{};
  bool seen() const { return K::kIsFloat && bits_of<Key>(above(magnitude, splat(K::kInfinity))) != 0; }
};

// The keys of kLanes<Key> scores. Without kNan the keys of NaN are unspecified. That is for scores of which none has
// turned out to be NaN, and takes a third off the work.
template <class K, bool kNan>
FASTPRUNE_INLINE Vec<typename K::Key> keys_at(const char* from, Order<typename K::Key> order, NanWatch<K>& watch) {
  using Key = typename K::Key;
  const Vec<Key> raw = load_widened<Key, typename K::Stored>(from);
  if constexpr (!K::kIsFloat) return raw ^ splat(order.flip);
  const Vec<Key> magnitude = raw & splat(K::kMagnitude), sign = raw >> (8 * static_cast<int>(sizeof(Key)) - 1);
  watch.magnitude = max_lanes(magnitude, watch.magnitude);
  const Vec<Key> keys = ((magnitude ^ sign) - sign) ^ splat(order.flip);
  if constexpr (!kNan) return keys;
  return where(above(magnitude, splat(K::kInfinity)), splat(order.nan), keys);
}
