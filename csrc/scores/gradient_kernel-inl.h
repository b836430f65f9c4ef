// The gradient of the losses of ranges of rows. Included once for each instruction set.

FASTPRUNE_INLINE void put(float* to, float x) { *to = x; }
FASTPRUNE_INLINE void put(Half* to, float x) { *to = to_half(x); }
FASTPRUNE_INLINE void put(BFloat16* to, float x) {
  const std::uint32_t bits = bit_cast<std::uint32_t>(x);
  to->bits = static_cast<std::uint16_t>(
      (x == x ? bits + 0x7fffu + (bits >> 16 & 1u) : bits | 0x400000u) >> 16);
}

// The gradient of one pack: by_p p_i - by_weight w_i.
template <bool kWeights, class Element>
FASTPRUNE_INLINE void gradient_pack(Element* grad, const Element* logits, const float* weight,
                                    float largest, float by_p, float by_weight) {
  for (int j = 0; j < kRegisters; ++j) {
    const Vector x = load(logits + j * kWidth) - splat(largest);
    // A masked class has a gradient of 0, not of e^-87.
    const Vector e = x < splat(kSmallestNormal) ? Vector{} : exp_nonpositive(x, kSmallestNormal);
    const Vector w = kWeights ? load(weight + j * kWidth) : splat(1.0f);
    store(grad + j * kWidth, fma(e, splat(by_p), w * splat(-by_weight)));
  }
}

template <bool kWeights, class Element>
FASTPRUNE_INLINE void gradient_row(Element* grad, const Element* logits, const float* weight,
                                   std::int64_t classes, float largest, float by_p, float by_weight) {
  std::int64_t i = 0;
  for (; i + kLanes <= classes; i += kLanes) {
    __builtin_prefetch(reinterpret_cast<const char*>(logits + i) + 2048);
    gradient_pack<kWeights>(grad + i, logits + i, weight + (kWeights ? i : 0), largest, by_p, by_weight);
  }
  if (i == classes) return;
  if (classes >= kLanes) {
    // The last pack once more, moved back to end with the row: the same values are written twice.
    i = classes - kLanes;
    gradient_pack<kWeights>(grad + i, logits + i, weight + (kWeights ? i : 0), largest, by_p, by_weight);
    return;
  }
  Element in[kLanes] = {}, out[kLanes];
  float w[kLanes] = {};
  const auto size = static_cast<std::size_t>(classes);
  std::memcpy(in, logits, size * sizeof(Element));
  if (kWeights) std::memcpy(w, weight, size * sizeof(float));
  gradient_pack<kWeights>(out, in, w, largest, by_p, by_weight);
  std::memcpy(grad, out, size * sizeof(Element));
}

template <class Element>
void gradient_rows(const GradientJob& job, std::int64_t begin, std::int64_t end) {
  const std::int64_t classes = job.rows.classes;
  const LossRows& loss = job.loss;
  RowCursor<Element> cursor(job.rows, begin);
  FirstBad bad;
  RowGroup<Element> rows;
  for (std::int64_t row = begin; row < end; ++row) {
    const auto i = (row - begin) % kLanes;
    if (i == 0) cursor.next(end - row < kLanes ? static_cast<int>(end - row) : kLanes, rows, bad);
    const Element* logits = rows.logits[i];
    const std::int64_t label = rows.label[i];
    Element* grad = static_cast<Element*>(job.grad) + row * classes;
    if (label < 0) {
      std::memset(grad, 0, static_cast<std::size_t>(classes) * sizeof(Element));
      continue;
    }
    const std::int64_t b = row / job.rows.tokens, t = row % job.rows.tokens;
    const double g = job.scale * job.row_grad[b * job.grad_batch_stride + t * job.grad_token_stride];
    const double label_weight = loss.weight ? loss.weight[label] : 1.0;
    const double hard = g * (1.0 - loss.smoothing) * label_weight;
    const double each = g * loss.smoothing / static_cast<double>(classes);
    const double by_p = (hard + each * job.weight_sum) * loss.scale[row];
    const bool weights = loss.weight != nullptr && loss.smoothing > 0.0f;
    (weights ? gradient_row<true, Element> : gradient_row<false, Element>)(
        grad, logits, loss.weight, classes, loss.largest[row], static_cast<float>(by_p),
        static_cast<float>(each));
    // p_y - 1 is -doubt, which does not cancel where the row is confident.
    const double doubt = loss.doubt[row];
    put(grad + label, static_cast<float>(-hard * doubt + each * (job.weight_sum * (1.0 - doubt) - label_weight)));
  }
}

inline GradientKernel gradient(DType dtype) {
  switch (dtype) {
    case DType::kFloat16: return gradient_rows<Half>;
    case DType::kBFloat16: return gradient_rows<BFloat16>;
    case DType::kFloat32: return gradient_rows<float>;
    default: return nullptr;  // the binding refuses these
  }
}
