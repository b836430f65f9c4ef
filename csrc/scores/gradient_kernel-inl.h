// The kernel that writes the gradient of the losses of a range of rows.
//
// Included once for each instruction set, by scores/row_kernels-inl.h.
//
// Cost: one read and one write of a row, and one exponential for each class. The forward pass has left 1 / Z.

// The gradient of one pack: by_p e^(z_i - largest) - by_weight w_i.
template <bool kWeights, class Element>
FASTPRUNE_INLINE void gradient_pack(Element* grad, const Element* logits, const float* weight,
                                    float largest, float by_p, float by_weight) {
  for (int j = 0; j < kRegisters; ++j) {
    const F32 x = load(logits + j * kWidth) - splat(largest);
    // The gradient of a masked class is 0, not e^-87.
    const F32 e = x < splat(kSmallestNormal) ? F32{} : exp_nonpositive(x, kSmallestNormal);
    const F32 w = kWeights ? load(weight + j * kWidth) : splat(1.0f);
    store(grad + j * kWidth, fma(e, splat(by_p), w * splat(-by_weight)));
  }
}

// The gradient of one row as if it had no label.
template <bool kWeights, class Element>
FASTPRUNE_INLINE void gradient_row(Element* grad, const Element* logits, const float* weight,
                                   std::int64_t classes, float largest, float by_p, float by_weight) {
  std::int64_t i = 0;
  for (; i + kPack <= classes; i += kPack) {
    __builtin_prefetch(reinterpret_cast<const char*>(logits + i) + 2048);
    gradient_pack<kWeights>(grad + i, logits + i, weight + (kWeights ? i : 0), largest, by_p, by_weight);
  }
  if (i == classes) return;
  if (classes >= kPack) {
    // The last pack moves back so that it ends with the row. Some values are written twice, and they are the same.
    i = classes - kPack;
    gradient_pack<kWeights>(grad + i, logits + i, weight + (kWeights ? i : 0), largest, by_p, by_weight);
    return;
  }
  Element in[kPack] = {}, out[kPack];
  float w[kPack] = {};
  const auto size = static_cast<std::size_t>(classes);
  std::memcpy(in, logits, size * sizeof(Element));
  if (kWeights) std::memcpy(w, weight, size * sizeof(float));
  gradient_pack<kWeights>(out, in, w, largest, by_p, by_weight);
  std::memcpy(grad, out, size * sizeof(Element));
}

// Rows [begin, end). A row that is not counted has a gradient of 0.
template <class Element>
void gradient_rows(const GradientJob& job, std::int64_t begin, std::int64_t end) {
  const std::int64_t classes = job.rows.classes;
  const LossRows& loss = job.loss;
  RowCursor<Element> cursor(job.rows, begin);
  FirstBad bad;
  RowGroup<Element> rows;
  for (std::int64_t row = begin; row < end; ++row) {
    const auto i = (row - begin) % kPack;
    if (i == 0) cursor.next(end - row < kPack ? static_cast<int>(end - row) : kPack, rows, bad);
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
    // p_y - 1 is written as -doubt, which has all its digits where the row is confident.
    const double doubt = loss.doubt[row];
    store_rounded(grad + label,
                  static_cast<float>(-hard * doubt + each * (job.weight_sum * (1.0 - doubt) - label_weight)));
  }
}

// The kernel for logits of that type. The binding refuses other types than these three.
inline GradientKernel gradient(DType dtype) {
  switch (dtype) {
    case DType::kFloat16: return gradient_rows<Half>;
    case DType::kBFloat16: return gradient_rows<BFloat16>;
    case DType::kFloat32: return gradient_rows<float>;
    default: return nullptr;
  }
}
