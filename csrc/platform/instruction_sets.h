// Which instruction set the kernels run on: the best the processor has, or the one that the
// environment variable FASTPRUNE_ISA names.
#pragma once

namespace fastprune {

enum class InstructionSet { kPortable, kAvx2, kAvx512 };

// Decided at the first call. A name that is unknown or that the processor lacks is passed over;
// fastprune.scores.cpu warns of it.
InstructionSet instruction_set();

// "portable", "avx2" or "avx512".
const char* name_of(InstructionSet set);

// Whether this build and this processor have it.
bool has(InstructionSet set);

}  // namespace fastprune
