// What the SIMD layer (platform/simd-inl.h) needs outside of the namespaces of the instruction sets.
//
// Gives the element types, the intrinsics, and two facts that hold for every instruction set. A file that compiles
// kernels includes this header first, then platform/each_instruction_set.h.
#pragma once

#include <cstdint>
#include <type_traits>

#include "platform/compiler.h"
#include "platform/dtypes.h"

namespace fastprune {

// The most lanes that a register has on any instruction set. A function that stores whole registers may write up to
// so many elements after the last one, so its buffer must have room for them.
constexpr std::int64_t kMostLanes = 16;

// For every mask of eight lanes: the numbers of the set lanes in order, one byte each. 2 KiB, made at compile time.
struct LanesOfMask {
  std::uint64_t word[256];
  constexpr LanesOfMask() : word() {
    for (unsigned mask = 0; mask < 256; ++mask) {
      int at = 0;
      for (unsigned lane = 0; lane < 8; ++lane)
        if (mask >> lane & 1u) word[mask] |= std::uint64_t(lane) << (8 * at++);
    }
  }
};
[[maybe_unused]] inline constexpr LanesOfMask kLanesOfMask;

}  // namespace fastprune
