// What row_scores.cpp compiles for each instruction set.
#include "platform/simd-inl.h"
#include "scores/row_sums-inl.h"
#include "scores/few_classes-inl.h"
#include "scores/closed_forms-inl.h"
#include "scores/scoring_kernel-inl.h"
#include "scores/gradient_kernel-inl.h"
#undef FASTPRUNE_INLINE
#undef FASTPRUNE_FORMULA
