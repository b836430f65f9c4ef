// The gradient of one row as if it had no label.
//
// Included once for each instruction set, by scores/row_kernels-inl.h and scores/tile_kernels-inl.h.
//
// Cost: one read and one write of the row, and one exponential for each class.

// The gradient of class i is by_p e^(z_i - largest) - by_weight w_i. With a softcap c that is times 1 - (z_i / c)^2.
struct RowGradient {
  float largest, by_p, by_weight;
  float inverse_cap;  // 1 / c
};

template <bool kWeights, bool kCapped, class Element>
FASTPRUNE_INLINE void gradient_pack(Element* grad, const Element* logits, const float* weight,
                                    const RowGradient& row) {
  for (int j = 0; j < kRegisters; ++j) {
    const F32 z = load(logits + j * kWidth), x = z - splat(row.largest);
    // The gradient of a masked class is 0, not e^-87.
    const F32 e = x < splat(kSmallestNormal) ? F32{} : exp_nonpositive(x, kSmallestNormal);
    const F32 w = kWeights ? load(weight + j * kWidth) : splat(1.0f);
    F32 gradient = fma(e, splat(row.by_p), w * splat(-row.by_weight));
    if constexpr (kCapped) {
      const F32 capped = z * splat(row.inverse_cap);
      gradient = gradient * fma(-capped, capped, splat(1.0f));
    }
    store(grad + j * kWidth, gradient);
  }
}

// `grad` is (classes), and either the same array as `logits` or apart from it.
template <bool kWeights, bool kCapped, class Element>
FASTPRUNE_INLINE void gradient_row(Element* grad, const Element* logits, const float* weight,
                                   std::int64_t classes, const RowGradient& row) {
  std::int64_t i = 0;
  for (; i + kPack <= classes; i += kPack) {
    __builtin_prefetch(reinterpret_cast<const char*>(logits + i) + 2048);
    gradient_pack<kWeights, kCapped>(grad + i, logits + i, weight + (kWeights ? i : 0), row);
  }
  if (i == classes) return;
  if (classes >= kPack && grad != logits) {
    // The last pack moves back so that it ends with the row. Some values are written twice, and they are the same.
    i = classes - kPack;
    gradient_pack<kWeights, kCapped>(grad + i, logits + i, weight + (kWeights ? i : 0), row);
    return;
  }
  Element in[kPack] = {}, out[kPack];
  float w[kPack] = {};
  const auto size = static_cast<std::size_t>(classes - i);
  std::memcpy(in, logits + i, size * sizeof(Element));
  if (kWeights) std::memcpy(w, weight + i, size * sizeof(float));
  gradient_pack<kWeights, kCapped>(out, in, w, row);
  std::memcpy(grad + i, out, size * sizeof(Element));
}
