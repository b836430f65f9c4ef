// The sums of rows of one block, kTogether rows at a time.
//
// Included once for each instruction set, by scores/row_kernels-inl.h.
//
// Finding a maximum and adding up sixteen lanes are long chains of operations that wait for each other. With several
// rows at once the processor works on one row while another one waits.
//
// Memory: kTogether blocks of kShortRow values on the stack, at most 16 KiB.

constexpr int kTogether = 4;
constexpr std::int64_t kShortRow = 512;

// The sums of rows first .. first + kTogether - 1 of the group. Requires classes <= kShortRow.
template <Level kLevel, class Element>
FASTPRUNE_INLINE void sum_short_rows(const RowGroup<Element>& rows, int first, std::int64_t classes,
                                     Sums (&out)[kTogether]) {
  using Compute = ComputeOf<Element>;
  alignas(64) Compute buffer[kTogether][kShortRow];
  std::conditional_t<std::is_same_v<Element, float>, PatchedBlock, Block<Compute>> block[kTogether];
  double top[kTogether];
  for (int i = 0; i < kTogether; ++i) {
    if (!rows.counted(first + i)) continue;
    const Element* row = rows.logits[first + i];
    const std::int64_t label = rows.label[first + i];
    if constexpr (std::is_same_v<Element, float>) {
      block[i] = patched(row, classes, label, buffer[i]);
      top[i] = largest(block[i]);
    } else {
      block[i] = converted(row, classes, label, buffer[i], top[i]);
    }
  }
  for (int i = 0; i < kTogether; ++i) {
    out[i] = Sums{};
    if (rows.counted(first + i))
      add<kLevel>(out[i], block[i], top[i], reinterpret_cast<const char*>(rows.logits[first + i] + kBlock),
                  kPack * sizeof(Element));
  }
}
