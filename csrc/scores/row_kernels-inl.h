// What row_scores.cpp compiles for each instruction set.
#include "lanes.h"
#include "row_sums.h"
#include "few_classes.h"
#include "row_closing.h"
#include "row_kernel.h"
#include "gradient_kernel.h"
#undef FASTPRUNE_INLINE
#undef FASTPRUNE_FORMULA
