// The passes of select_kernel.h, picked for this machine. Of select_topk.cpp alone, hence the unnamed namespace.
#pragma once

#include <algorithm>
#include <cstdint>

#include "platform/instruction_sets.h"
#include "platform/compiler.h"
#include "selection/keys.h"

namespace fastprune {
namespace {

// The passes of select_kernel.h as compiled for one instruction set.
template <class K, class Key = typename K::Key>
struct Passes {
  bool (*write_keys)(const char* block, std::int64_t n, Order<Key> order, Key* out);
  Counts (*count)(const char* block, std::int64_t n, Order<Key> order, Key low, Key high, Key* inside);
  Counts (*collect)(const char* block, std::int64_t n, Order<Key> order, Key low, Key first, Key* keys_out,
                    Key* places_out);
  std::int64_t (*write_indices)(const char* block, std::int64_t n, Order<Key> order, Key threshold,
                                std::int64_t& ties, bool sparse, std::int64_t first, std::int64_t* out,
                                std::int64_t room);
};
template <class Key>
struct KeyPasses {
  Tally (*tally)(const Key* keys, std::int64_t n, Key pivot);
  Threshold<Key> (*kth_largest)(Key* keys, std::int64_t n, std::int64_t k);
};

#define FASTPRUNE_PORTABLE_WIDTH 1
#define FASTPRUNE_KERNELS "selection/score_passes-inl.h"
#include "platform/each_instruction_set.h"

// `nan`: for scores that may hold one.
template <class K>
Passes<K> passes(bool nan = true) {
#ifdef FASTPRUNE_X86
  switch (instruction_set()) {
    case InstructionSet::kAvx512: return avx512::passes<K>(nan);
    case InstructionSet::kAvx2: return avx2::passes<K>(nan);
    case InstructionSet::kPortable: break;
  }
#endif
  return portable::passes<K>(nan);
}

template <class Key>
KeyPasses<Key> key_passes() {
#ifdef FASTPRUNE_X86
  switch (instruction_set()) {
    case InstructionSet::kAvx512: return avx512::key_passes<Key>();
    case InstructionSet::kAvx2: return avx2::key_passes<Key>();
    case InstructionSet::kPortable: break;
  }
#endif
  return portable::key_passes<Key>();
}

}  // namespace
}  // namespace fastprune
