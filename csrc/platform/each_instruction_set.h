// Compiles the file named by FASTPRUNE_KERNELS once for each instruction set, in the namespaces portable, avx2
// and avx512, with FASTPRUNE_WIDTH set to the floats in a register; FASTPRUNE_PORTABLE_WIDTH says how many of them
// the portable build works on. A caller picks among the three by instruction_set(), so that one wheel serves all
// machines of a platform. <immintrin.h> must have been included before, outside any target.

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

#endif

#undef FASTPRUNE_KERNELS
#undef FASTPRUNE_PORTABLE_WIDTH
