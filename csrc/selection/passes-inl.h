// The passes of a selection over blocks of scores and over keys.
//
// Included once for each instruction set, by platform/each_instruction_set.h for selection/passes.h. It lists its parts
// in the order in which they build on each other. Every part is included here alone and has no include guard.
//
// Gives passes<K>(nan) and key_passes<Key>(), the functions that selection/passes.h describes. The namespace portable
// is compiled first. The others leave what does not fill a register to it.
#include "platform/simd-inl.h"

#include "selection/key_registers-inl.h"
#include "selection/score_passes-inl.h"
#include "selection/key_passes-inl.h"

template <class K>
Passes<K> passes(bool nan) {
  if (nan && K::kIsFloat) return {write_keys<K>, count<K, true>, collect<K, true>, write_indices<K, true>};
  return {write_keys<K>, count<K, false>, collect<K, false>, write_indices<K, false>};
}

template <class Key>
KeyPasses<Key> key_passes() { return {tally<Key>, kth_largest<Key>}; }
