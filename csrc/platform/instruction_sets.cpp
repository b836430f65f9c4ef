#include "platform/instruction_sets.h"

#include <cstdlib>
#include <cstring>

namespace fastprune {
namespace {

InstructionSet choose() {
  constexpr InstructionSet best_first[] = {InstructionSet::kAvx512, InstructionSet::kAvx2,
                                           InstructionSet::kPortable};
  const char* wanted = std::getenv("FASTPRUNE_ISA");
  if (wanted != nullptr)
    for (const InstructionSet set : best_first)
      if (has(set) && std::strcmp(wanted, name_of(set)) == 0) return set;
  for (const InstructionSet set : best_first)
    if (has(set)) return set;
  return InstructionSet::kPortable;
}

}  // namespace

InstructionSet instruction_set() {
  static const InstructionSet chosen = choose();
  return chosen;
}

const char* name_of(InstructionSet set) {
  switch (set) {
    case InstructionSet::kAvx512: return "avx512";
    case InstructionSet::kAvx2: return "avx2";
    case InstructionSet::kPortable: break;
  }
  return "portable";
}

bool has(InstructionSet set) {
#if defined(__x86_64__) && defined(__GNUC__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c") && __builtin_cpu_supports("popcnt");
  switch (set) {
    case InstructionSet::kAvx512:
      return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    case InstructionSet::kAvx2: return avx2;
    case InstructionSet::kPortable: break;
  }
#endif
  return set == InstructionSet::kPortable;
}

}  // namespace fastprune
