// The kernel that writes the gradient of the losses of a range of rows.
//
// Included once for each instruction set, by scores/row_kernels-inl.h.
//
// Cost: one read and one write of a row, and one exponential for each class. The forward pass has left 1 / Z.

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
    const RowGradient gradient{loss.largest[row], static_cast<float>(by_p), static_cast<float>(each), 0.0f};
    (weights ? gradient_row<true, false, Element> : gradient_row<false, false, Element>)(
        grad, logits, loss.weight, classes, gradient);
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
