// Blocks: up to kBlock classes of a row, as packs, without the label.
//
// Included once for each instruction set, by scores/row_kernels-inl.h and scores/tile_kernels-inl.h.
//
// A block stays in the first-level cache while it is read twice, once for its maximum and once for its sums. The label
// is left out by putting -inf in its place. An incomplete last pack ends in -inf.
//
// Memory: nothing of its own. Callers bring the buffers that the functions write.

constexpr std::int64_t kBlock = 1024;  // 4 KiB of floats: half of what a small first-level cache has

template <class Element>
using ComputeOf = decltype(to_compute(Element{}));

// A block that lies in memory as it is: packs one after the other.
template <class Compute>
struct Block {
  const Compute* values;
  std::int64_t size;  // in packs

  FASTPRUNE_INLINE const Compute* operator[](std::int64_t i) const { return values + i * kPack; }
};

// A block in memory, except for up to two packs that lie elsewhere. One holds the label, replaced by -inf. The other is
// the incomplete last pack, padded with -inf. Two other pointers cost little, and a copy of every row would cost more.
struct PatchedBlock : Block<float> {
  std::int64_t label_pack, last_pack;  // -1 if there is none
  const float* label_values;
  const float* last_values;

  FASTPRUNE_INLINE const float* operator[](std::int64_t i) const {
    const float* at = values + i * kPack;
    at = i == label_pack ? label_values : at;
    return i == last_pack ? last_values : at;
  }
};

// The largest value. It ignores NaNs.
template <class Packs>
FASTPRUNE_INLINE float largest(const Packs& packs) {
  F32 best[2][kRegisters];
  for (int j = 0; j < kRegisters; ++j) best[0][j] = best[1][j] = splat(-kInf<float>);
  std::int64_t i = 0;
  for (; i + 2 <= packs.size; i += 2)
    for (int half = 0; half < 2; ++half)
      for (int j = 0; j < kRegisters; ++j)
        best[half][j] = max_lanes(load(packs[i + half] + j * kWidth), best[half][j]);
  if (i < packs.size)
    for (int j = 0; j < kRegisters; ++j)
      best[0][j] = max_lanes(load(packs[i] + j * kWidth), best[0][j]);
  for (int j = 0; j < kRegisters; ++j) best[0][j] = max_lanes(best[0][j], best[1][j]);
  return max_of_pack(best[0]);
}
inline double largest(const Block<double>& packs) {
  double best[kPack];
  for (int j = 0; j < kPack; ++j) best[j] = -kInf<double>;
  for (std::int64_t i = 0; i < packs.size; ++i)
    for (int j = 0; j < kPack; ++j) best[j] = packs[i][j] > best[j] ? packs[i][j] : best[j];
  double top = best[0];
  for (int j = 1; j < kPack; ++j) top = best[j] > top ? best[j] : top;
  return top;
}

// A block of `size` floats where it lies, with its label and its incomplete end patched.
//
// label   the label's place in this block. Outside of [0, size) the label is in another block.
// buffer  room for two packs, which must live as long as the result.
FASTPRUNE_INLINE PatchedBlock patched(const float* block, std::int64_t size, std::int64_t label, float* buffer) {
  const std::int64_t full = size / kPack;
  const int rest = static_cast<int>(size % kPack);
  PatchedBlock packs{{block, full + (rest > 0)}, -1, -1, buffer, buffer + kPack};
  if (rest > 0) {
    copy_padded(buffer + kPack, block + full * kPack, rest);
    packs.last_pack = full;
  }
  if (label >= 0 && label < size) {
    if (label / kPack == full) {
      buffer[kPack + label % kPack] = -kInf<float>;
    } else {
      __builtin_memcpy(buffer, block + label / kPack * kPack, kPack * sizeof(float));
      buffer[label % kPack] = -kInf<float>;
      packs.label_pack = label / kPack;
    }
  }
  return packs;
}

// A block of another type, converted into `buffer`, which has room for the block's packs. `top` becomes its largest
// value.
template <class Element, class Compute>
FASTPRUNE_INLINE Block<Compute> converted(const Element* block, std::int64_t size, std::int64_t label,
                                          Compute* buffer, double& top) {
  const std::int64_t full = size / kPack * kPack, packs = (size + kPack - 1) / kPack;
  for (std::int64_t i = full; i < packs * kPack; ++i)
    buffer[i] = i < size ? to_compute(block[i]) : -kInf<Compute>;
  const Block<Compute> result{buffer, packs};
  if constexpr (std::is_same_v<Compute, float>) {
    F32 best[2] = {splat(-kInf<float>), splat(-kInf<float>)};
    for (std::int64_t i = 0; i < full; i += kPack) {
      for (int j = 0; j < kRegisters; ++j) {
        const F32 v = load(block + i + j * kWidth);
        store(buffer + i + j * kWidth, v);
        best[j % 2] = max_lanes(v, best[j % 2]);
      }
    }
    for (std::int64_t i = full; i < packs * kPack; i += kWidth) best[0] = max_lanes(load(buffer + i), best[0]);
    top = max_of_lanes(max_lanes(best[0], best[1]));
  } else {
    for (std::int64_t i = 0; i < full; ++i) buffer[i] = block[i];
    top = largest(result);
  }
  if (label >= 0 && label < size) {
    // The label may have been the largest. Only one block of a row is searched twice.
    buffer[label] = -kInf<Compute>;
    top = largest(result);
  }
  return result;
}
