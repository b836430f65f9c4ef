// x86 intrinsics, where there are any; FASTPRUNE_X86 says so.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__)
#define FASTPRUNE_X86
#ifndef __clang__
// GCC 12 takes the undefined vectors of its own intrinsics for mistakes (its bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#endif
