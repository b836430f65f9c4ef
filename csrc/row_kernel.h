// The sums and the scores of one row; see row_scores.cpp for the algebra.
//
// Included once for each instruction set, after lanes.h and like it.

constexpr std::int64_t kBlock = 512;

template <class T>
constexpr T kInf = std::numeric_limits<T>::infinity();

// The largest of `size` values (a multiple of kLanes); NaNs are passed over.
inline float block_max(const float* block, std::int64_t size) {
  Vector best[kRegisters];
  for (int j = 0; j < kRegisters; ++j) best[j] = splat(-kInf<float>);
  for (std::int64_t i = 0; i < size; i += kLanes)
    for (int j = 0; j < kRegisters; ++j)
      best[j] = max_lanes(load(block + i + j * kWidth), best[j]);
  return max_of_lanes(best);
}
inline double block_max(const double* block, std::int64_t size) {
  double best[kLanes];
  for (int j = 0; j < kLanes; ++j) best[j] = -kInf<double>;
  for (std::int64_t i = 0; i < size; i += kLanes)
    for (int j = 0; j < kLanes; ++j) best[j] = block[i + j] > best[j] ? block[i + j] : best[j];
  double top = best[0];
  for (int j = 1; j < kLanes; ++j) top = best[j] > top ? best[j] : top;
  return top;
}

// Running sums over the classes other than the label.
struct Sums {
  double max = -kInf<double>;
  double s1 = 0.0;
  double s2 = 0.0;

  // Adds `size` values (a multiple of kLanes).
  template <class T>
  void add(const T* block, std::int64_t size) {
    const double top = block_max(block, size);
    if (top > max) {
      if (s1 != 0.0) {
        const double scale = std::exp(max - top);
        s1 *= scale;
        s2 *= scale * scale;
      }
      max = top;
    }
    // A block of only -inf (and NaN) at the start of a row has no reference yet: with 0 its terms
    // vanish in the next rescaling, and a NaN stays.
    const T reference = max == -kInf<double> ? T(0) : static_cast<T>(max);
    Vector a1[kRegisters] = {}, a2[kRegisters] = {};
    for (std::int64_t i = 0; i < size; i += kLanes) {
      for (int j = 0; j < kRegisters; ++j) {
        const Vector e = exp_nonpositive(load_difference(block + i + j * kWidth, reference));
        a1[j] += e;
        a2[j] += e * e;
      }
    }
    s1 += sum_lanes(a1);
    s2 += sum_lanes(a2);
  }
};

// Rows whose elements are computed with as they are need no conversion.
inline const float* in_place(const float* block) { return block; }
inline const double* in_place(const double* block) { return block; }
inline const float* in_place(const Half*) { return nullptr; }
inline const float* in_place(const BFloat16*) { return nullptr; }

template <class Element>
Sums sum_others(const Element* row, std::int64_t classes, std::int64_t label) {
  using Compute = decltype(to_compute(Element{}));
  Compute buffer[kBlock];
  Sums sums;
  for (std::int64_t start = 0; start < classes; start += kBlock) {
    const std::int64_t size = classes - start < kBlock ? classes - start : kBlock;
    const bool holds_label = label >= start && label < start + size;
    const Compute* block = in_place(row + start);
    std::int64_t padded = size;
    if (block == nullptr || holds_label || size % kLanes != 0) {
      padded = (size + kLanes - 1) / kLanes * kLanes;
      for (std::int64_t i = padded - kLanes; i < padded; ++i) buffer[i] = -kInf<Compute>;
      for (std::int64_t i = 0; i < size; ++i) buffer[i] = to_compute(row[start + i]);
      if (holds_label) buffer[label - start] = -kInf<Compute>;
      block = buffer;
    }
    sums.add(block, padded);
  }
  return sums;
}

// Rows too short to fill vectors: in double, an exponential each but for label and maximum.
constexpr std::int64_t kFewClasses = 5;

template <class Element>
Sums sum_few_others(const Element* row, std::int64_t classes, std::int64_t label) {
  Sums sums;
  for (std::int64_t i = 0; i < classes; ++i)
    if (i != label && to_compute(row[i]) > sums.max) sums.max = to_compute(row[i]);
  const double reference = sums.max == -kInf<double> ? 0.0 : sums.max;
  for (std::int64_t i = 0; i < classes; ++i) {
    if (i == label) continue;
    const double z = to_compute(row[i]);
    const double e = z == reference ? 1.0 : std::exp(z - reference);
    sums.s1 += e;
    sums.s2 += e * e;
  }
  return sums;
}

struct Scores {
  float el2n = 0.0f;
  float loss = 0.0f;
};

inline Scores close(const Sums& sums, double label_logit, bool want_loss) {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  if (std::isnan(sums.s1) || std::isnan(label_logit) || label_logit == kInf<double> ||
      sums.max == kInf<double>)
    return {nan, nan};
  if (sums.max == -kInf<double>) return label_logit == -kInf<double> ? Scores{nan, nan} : Scores{};

  // Of w = e^(m - M) and p = e^(z_y - M) one is 1.
  const double gap = label_logit - sums.max;
  const bool confident = gap >= 0.0;
  const double smaller = std::exp(confident ? -gap : gap);
  const double w = confident ? smaller : 1.0, p = confident ? 1.0 : smaller;
  Scores scores;
  scores.el2n =
      static_cast<float>(w * std::sqrt(sums.s1 * sums.s1 + sums.s2) / (w * sums.s1 + p));
  if (want_loss)
    scores.loss = static_cast<float>(confident ? std::log1p(w * sums.s1)
                                               : std::log(sums.s1 + p) - gap);
  return scores;
}

template <class Element>
void score_rows(const RowScoresArgs& args, std::int64_t begin, std::int64_t end) {
  const auto* logits = static_cast<const Element*>(args.logits);
  std::int64_t b = begin / args.tokens, t = begin % args.tokens;
  for (std::int64_t row = begin; row < end; ++row) {
    Scores scores;
    if (t + args.shift < args.tokens) {
      const std::int64_t label =
          args.labels[b * args.labels_batch_stride + (t + args.shift) * args.labels_token_stride];
      if (label != args.ignore_index) {
        const Element* z = logits + b * args.logits_batch_stride + t * args.logits_token_stride;
        const Sums sums = args.classes <= kFewClasses ? sum_few_others(z, args.classes, label)
                                                      : sum_others(z, args.classes, label);
        scores = close(sums, to_compute(z[label]), args.loss);
      }
    }
    if (args.el2n) args.el2n[row] = scores.el2n;
    if (args.loss) args.loss[row] = scores.loss;
    if (++t == args.tokens) {
      t = 0;
      ++b;
    }
  }
}

inline RowScorer scorer(DType dtype) {
  switch (dtype) {
    case DType::kFloat16: return score_rows<Half>;
    case DType::kBFloat16: return score_rows<BFloat16>;
    case DType::kFloat32: return score_rows<float>;
    case DType::kFloat64: return score_rows<double>;
    case DType::kInt32:
    case DType::kInt64: break;
  }
  return nullptr;  // the binding refuses these
}
