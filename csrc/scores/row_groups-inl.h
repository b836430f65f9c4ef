// Groups of kPack rows: where they lie, and their sums side by side.
//
// Included once for each instruction set, by scores/row_kernels-inl.h and scores/tile_kernels-inl.h.
//
// The sums of a group lie as one lane for each row, so that the closed forms work on registers, too.

// Where kPack rows lie, and their labels.
template <class Element>
struct RowGroup {
  const Element* logits[kPack];
  alignas(64) std::int64_t label[kPack];  // -1 if the row is not counted
  std::ptrdiff_t ahead;                   // bytes from a row to the same row of the next group, in most cases

  FASTPRUNE_INLINE bool counted(int i) const { return label[i] >= 0; }
  FASTPRUNE_INLINE double label_logit(int i) const { return counted(i) ? to_compute(logits[i][label[i]]) : 0.0; }
  // The labels of the rows in register j. There are fewer than 2^31 classes (fastprune/scores/checks.py).
  FASTPRUNE_INLINE I32 labels(int j) const {
    return narrowed(load(label + j * kWidth), load(label + j * kWidth + kWidth / 2));
  }
};

typedef double Doubles[kPack];
typedef float Floats[kPack];

// The sums of kPack rows (see Sums), one lane for each row.
struct GroupSums {
  alignas(64) Doubles label_logit, max;
  alignas(64) Floats s1, s2, rest, spread;

  FASTPRUNE_INLINE void put(int i, double label, const Sums& sums) {
    label_logit[i] = label;
    max[i] = sums.max;
    s1[i] = static_cast<float>(sums.s1);
    s2[i] = static_cast<float>(sums.s2);
    rest[i] = static_cast<float>(sums.rest);
    spread[i] = static_cast<float>(sums.spread);
  }
};
