// Which instruction set the kernels run on: the best one that the processor has, or the one that the environment
// variable FASTPRUNE_ISA names.
//
// An ordinary header. The choice is made once and costs a load and a branch after that. Every function may be called
// from any thread.
#pragma once

namespace fastprune {

enum class InstructionSet { kPortable, kAvx2, kAvx512 };

// Decided at the first call. A name that is unknown or that the processor lacks is ignored here, and
// fastprune.scores.cpu warns of it.
InstructionSet instruction_set();

// "portable", "avx2" or "avx512".
const char* name_of(InstructionSet set);

// Whether both this build and this processor have it.
bool has(InstructionSet set);

}  // namespace fastprune
