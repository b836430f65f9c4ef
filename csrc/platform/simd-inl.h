// The SIMD layer: registers of numbers and the operations on them. The row kernels and the top-k passes share it.
//
// Included once for each instruction set, as the first file of a kernel: scores/row_kernels-inl.h and
// selection/passes-inl.h include it. It stands in the namespace of the instruction set and has no include guard.
// No other file of the kernels may look at FASTPRUNE_WIDTH.
//
// FASTPRUNE_WIDTH is the number of 32-bit lanes in a register:
//   16  AVX-512 (F, BW, DQ and VL)
//    8  AVX2 with FMA and F16C
//    4  every machine: SSE2 and NEON have registers of four floats
//    1  every machine: a register is one plain number
// The row kernels use 16, 8 and 4. The top-k passes use 16, 8 and 1, since neither SSE2 nor plain vector code can
// compress a register.
//
// Names:
//   Vec<T>     a register of float, double, std::int32_t or std::int64_t. Short names: F32, F64, I32, I64.
//   kLanes<T>  the number of elements in a Vec<T>.
//   mask       what a comparison of registers gives. The operators <, ==, ... give lanes of all ones or zeros (I32,
//              I64). above() and equal() give a Mask<T>, the fastest kind: a predicate register on AVX-512, and lanes
//              of all ones or zeros elsewhere. &, | and ~ combine masks, and the result must be kept in a Mask<T>.
//   bits       a mask as an unsigned integer, one bit for each lane. compress_store takes a mask or its bits.
//
// Bits: every operation rounds as IEEE says. Only fma() may be fused, and kFusedFma says where it is. Hence AVX-512
// and AVX2 give the same bits, and width 4 differs from them in the last digits.
//
// Memory: loads and stores accept any alignment. They touch whole registers, except where they say less.
#include "platform/vectors-inl.h"
#include "platform/arithmetic-inl.h"
#if FASTPRUNE_WIDTH > 1
#include "platform/tiles-inl.h"
#endif
#if FASTPRUNE_WIDTH != 4
#include "platform/compress-inl.h"
#endif
