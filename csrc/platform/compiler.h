// What we ask of the compiler beyond C++17: the intrinsics of x86 and forced inlining.
//
// Gives three macros:
//   FASTPRUNE_X86            defined where <immintrin.h> and target attributes exist (x86-64, GCC or Clang).
//   FASTPRUNE_INLINE         before a function: it is always inlined. A function of one instruction set must be
//                            inlined into its caller, since registers cannot be passed between instruction sets.
//   FASTPRUNE_INLINE_LAMBDA  the same for a lambda. It stands after the parameter list.
//
// Include it as an ordinary header, outside of every namespace.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__)
#define FASTPRUNE_X86
#ifndef __clang__
// GCC 12 warns of the undefined vectors of its own intrinsics (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#endif

#define FASTPRUNE_INLINE inline __attribute__((always_inline))
#define FASTPRUNE_INLINE_LAMBDA __attribute__((always_inline))
