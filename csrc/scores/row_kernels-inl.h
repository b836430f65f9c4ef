// The row kernels: scores, losses and gradients of ranges of rows.
//
// Included once for each instruction set, by platform/each_instruction_set.h for row_scores.cpp. It lists its parts in
// the order in which they build on each other. Every part is included here alone and has no include guard.
//
// Gives scorer(dtype, level) and gradient(dtype), the kernels that row_scores.cpp calls. Types: scores/jobs.h.
#include "platform/simd-inl.h"

#include "scores/packs-inl.h"
#include "scores/exp_log-inl.h"
#include "scores/blocks-inl.h"
#include "scores/row_sums-inl.h"
#include "scores/row_groups-inl.h"
#include "scores/row_cursor-inl.h"
#include "scores/short_rows-inl.h"
#include "scores/few_classes-inl.h"
#include "scores/closed_forms-inl.h"
#include "scores/row_losses-inl.h"
#include "scores/scoring_kernel-inl.h"
#include "scores/gradient_row-inl.h"
#include "scores/gradient_kernel-inl.h"
