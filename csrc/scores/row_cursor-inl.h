// A cursor that steps through rows in order, a group at a time, and checks their labels.
//
// Included once for each instruction set, by scores/row_kernels-inl.h.
//
// The cursor divides once, when it is made. A division for every row would take as long as a short row.

// Starts at row `row` of batch * tokens rows, and must not be moved past the last one.
template <class Element>
class RowCursor {
 public:
  RowCursor(const Rows& rows, std::int64_t row) : rows_(rows), b_(row / rows.tokens), t_(row % rows.tokens) {}

  // The next n rows, 1 <= n <= kPack. The places after them hold the last row again, which is not counted there.
  // Labels out of range are reported, and their rows are not counted.
  FASTPRUNE_INLINE void next(int n, RowGroup<Element>& out, FirstBad& bad) {
    out.ahead = kPack * rows_.logits_token_stride * static_cast<std::ptrdiff_t>(sizeof(Element));
    for (int done = 0; done < n;) {
      const std::int64_t left = rows_.tokens - t_;
      const int here = left < n - done ? static_cast<int>(left) : n - done;
      take(here, done, out, bad);
      done += here;
      t_ += here;
      if (t_ == rows_.tokens) {
        t_ = 0;
        ++b_;
      }
    }
    for (int i = n; i < kPack; ++i) {
      out.logits[i] = out.logits[n - 1];
      out.label[i] = -1;
    }
  }

 private:
  // The next n rows, all of one batch entry, to places at .. at + n - 1 of the group.
  FASTPRUNE_INLINE void take(int n, int at, RowGroup<Element>& out, FirstBad& bad) const {
    const Element* logits = static_cast<const Element*>(rows_.logits) + b_ * rows_.logits_batch_stride +
                            t_ * rows_.logits_token_stride;
    const std::int64_t step = rows_.logits_token_stride;
    for (int i = 0; i < n; ++i) out.logits[at + i] = logits + i * step;

    const std::int64_t first = t_ + rows_.shift, left = rows_.tokens - first;
    const int labelled = left < 0 ? 0 : left < n ? static_cast<int>(left) : n;
    const std::int64_t* labels = rows_.labels + b_ * rows_.labels_batch_stride + first * rows_.labels_token_stride;
    bool wrong = false;
    if (labelled == kPack && rows_.labels_token_stride == 1) {
      wrong = check(labels, out.label);
    } else {
      for (int i = 0; i < labelled; ++i) {
        const std::int64_t label = labels[i * rows_.labels_token_stride];
        const bool ignored = label == rows_.ignore_index;
        const bool inside = static_cast<std::uint64_t>(label) < static_cast<std::uint64_t>(rows_.classes);
        wrong |= !inside & !ignored;
        out.label[at + i] = inside & !ignored ? label : -1;
      }
      for (int i = labelled; i < n; ++i) out.label[at + i] = -1;
    }
    if (__builtin_expect(wrong, false)) {
      for (int i = 0; i < labelled; ++i) {
        const std::int64_t label = labels[i * rows_.labels_token_stride];
        if (label != rows_.ignore_index && (label < 0 || label >= rows_.classes))
          return bad.report(b_ * rows_.tokens + first + i);
      }
    }
  }

  // Checks kPack labels that lie side by side, in registers. If labels were stored one by one, a load of several of
  // them would have to wait. Returns whether a label is wrong.
  FASTPRUNE_INLINE bool check(const std::int64_t* labels, std::int64_t* out) const {
    constexpr int lanes = kWidth / 2;
    const I64 zero = {}, ignored = zero + rows_.ignore_index, classes = zero + rows_.classes;
    I64 wrong = {};
    for (int i = 0; i < kPack; i += lanes) {
      const I64 label = load(labels + i), inside = (label >= zero) & (label < classes);
      const I64 is_ignored = label == ignored;
      wrong |= ~(inside | is_ignored);
      const I64 kept = inside & ~is_ignored ? label : ~zero;
      __builtin_memcpy(out + i, &kept, sizeof kept);
    }
    std::int64_t any = 0;
    for (int i = 0; i < lanes; ++i) any |= wrong[i];
    return any != 0;
  }

  const Rows& rows_;
  std::int64_t b_, t_;
};
