// Compiles one file of kernels for every instruction set.
//
// Included once by each file that has kernels, inside its unnamed namespace (scores/row_scores.cpp and
// selection/passes.h). It has no include guard. Before it the includer
//   - includes platform/instruction_sets.h and platform/simd.h, outside of all namespaces,
//   - defines FASTPRUNE_KERNELS, the file to compile,
//   - defines FASTPRUNE_PORTABLE_WIDTH, the width for every machine: 4 or 1.
//
// Gives the namespaces portable, avx2 and avx512, each with the contents of FASTPRUNE_KERNELS compiled at its
// FASTPRUNE_WIDTH (see platform/simd-inl.h). Other machines than x86-64 have only `portable`.
//
// Gives FASTPRUNE_DISPATCH(call), the value of `call` in the namespace of instruction_set(). So one wheel serves all
// machines of a platform.

#define FASTPRUNE_WIDTH FASTPRUNE_PORTABLE_WIDTH
namespace portable {
#include FASTPRUNE_KERNELS
}  // namespace portable
#undef FASTPRUNE_WIDTH

#ifdef FASTPRUNE_X86

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,popcnt"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,popcnt")
#endif
#define FASTPRUNE_WIDTH 8
namespace avx2 {
#include FASTPRUNE_KERNELS
}  // namespace avx2
#undef FASTPRUNE_WIDTH
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#ifdef __clang__
#pragma clang attribute push( \
    __attribute__((target("avx2,fma,f16c,popcnt,avx512f,avx512bw,avx512dq,avx512vl"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,popcnt,avx512f,avx512bw,avx512dq,avx512vl")
#endif
#define FASTPRUNE_WIDTH 16
namespace avx512 {
#include FASTPRUNE_KERNELS
}  // namespace avx512
#undef FASTPRUNE_WIDTH
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#define FASTPRUNE_DISPATCH(...)                                                  \
  (instruction_set() == InstructionSet::kAvx512 ? avx512::__VA_ARGS__            \
   : instruction_set() == InstructionSet::kAvx2 ? avx2::__VA_ARGS__ : portable::__VA_ARGS__)

#else

#define FASTPRUNE_DISPATCH(...) (portable::__VA_ARGS__)

#endif

#undef FASTPRUNE_KERNELS
#undef FASTPRUNE_PORTABLE_WIDTH
