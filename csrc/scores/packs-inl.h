// Packs: kPack floats in kRegisters registers.
//
// Included once for each instruction set, by scores/row_kernels-inl.h and scores/tile_kernels-inl.h.
//
// A lane of a pack holds the same values at every width, and packs are reduced by the same tree at every width. So
// AVX-512 and AVX2 give the same bits.

constexpr int kWidth = kLanes<float>;
constexpr int kRegisters = kPack / kWidth;

template <class T>
constexpr T kInf = std::numeric_limits<T>::infinity();

// The first n < kPack elements, and -inf after them. No more is read.
FASTPRUNE_INLINE void copy_padded(float* to, const float* from, int n) {
  for (int j = 0; j < kRegisters; ++j) {
    const int here = n - j * kWidth;
    store(to + j * kWidth, load_first(from + j * kWidth, here < 0 ? 0 : here < kWidth ? here : kWidth));
  }
}

// A register of values less a reference, as floats. Doubles are subtracted before they are rounded.
FASTPRUNE_INLINE F32 load_difference(const float* from, float reference) { return load(from) - splat(reference); }
FASTPRUNE_INLINE F32 load_difference(const double* from, double reference) {
  float v[kWidth];
  for (int i = 0; i < kWidth; ++i) v[i] = static_cast<float>(from[i] - reference);
  return load(v);
}

// A pack to four lanes: halves are combined until four lanes are left.
template <class Combine>
FASTPRUNE_INLINE Quad fold_pack(const F32 (&v)[kRegisters], const Combine& combine) {
  F32 folded[kRegisters];
  for (int j = 0; j < kRegisters; ++j) folded[j] = v[j];
  for (int half = kRegisters / 2; half > 0; half /= 2)
    for (int j = 0; j < half; ++j) folded[j] = combine(folded[j], folded[j + half]);
  return fold(folded[0], combine);
}

FASTPRUNE_INLINE double sum_of_pack(const F32 (&v)[kRegisters]) {
  const Quad q = fold_pack(v, [](auto a, auto b) FASTPRUNE_INLINE_LAMBDA { return a + b; });
  return (static_cast<double>(q[0]) + q[2]) + (static_cast<double>(q[1]) + q[3]);
}

// The largest lane. No lane may be NaN.
FASTPRUNE_INLINE float max_of_pack(const F32 (&v)[kRegisters]) {
  const Quad q = fold_pack(v, [](auto a, auto b) FASTPRUNE_INLINE_LAMBDA { return a > b ? a : b; });
  const float even = q[0] > q[2] ? q[0] : q[2], odd = q[1] > q[3] ? q[1] : q[3];
  return even > odd ? even : odd;
}
FASTPRUNE_INLINE float max_of_lanes(F32 v) {
  F32 pack[kRegisters];
  for (int j = 0; j < kRegisters; ++j) pack[j] = v;
  return max_of_pack(pack);
}
