"""Tiles: how many short rows share a program, on how many threads, and how they are read.

A tile is ROWS rows of COLUMNS classes in registers. COLUMNS is a power of two, at least C. Rows of at most 1024 classes
are reduced within one warp, which needs no barriers. Every thread of a row computes its closed forms, so few threads a
row also repeat them least.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Longer rows are cut into segments (`triton_long_rows`). From about here on that outweighs the fixed cost of a segment.
# At 4096 classes it does not yet: on an H100 a tile takes 0.77 (bf16) and 0.86 (fp32) of the time of a segment. But a
# tile has a power of two of columns, so it only pays for rows just below 4096.
SHORT = 2048
_NEARLY_4096 = range(3584, 4097)


def is_short(classes: int) -> bool:
    """Whether the scores of rows of that many classes come from tiles."""
    return classes <= SHORT or classes in _NEARLY_4096


def short_tile(classes: int, itemsize: int) -> dict[str, int]:
    """ROWS and COLUMNS of a program with `short_threads` threads."""
    columns = triton.next_power_of_2(classes)
    logits = 1024 if itemsize <= 4 else 512
    return {"ROWS": max(1, min(32, logits // columns)), "COLUMNS": columns}


def short_threads(columns: int, itemsize: int) -> int:
    """Threads of a program with 32 logits each, or 16 of fp64, which keeps the tile in registers."""
    return max(32, columns // (32 if itemsize <= 4 else 16))


def few_classes_tile(columns: int) -> tuple[dict[str, int], int]:
    """(tile, threads) of 128 rows, for so few classes that starting a program costs more than 32 rows do."""
    return {"ROWS": 128, "COLUMNS": columns}, 128


@triton.jit
def hidden_one(rows):
    """1, which the compiler does not know to be 1. It would have to know that `rows` is never negative.

    Columns are multiplied by it where each lane of a warp shall take whole rows. Then the compiler does not see that
    columns lie side by side. Where it sees that, it spreads a row that is no multiple of 16 bytes over several lanes.
    Each lane then repeats the closed forms of the 8 rows that it has a part of. A lane with whole rows reads most
    logits from the L1 cache. Counted with Triton 3.6 at 7 classes, that is 47 instructions a logit instead of 180.
    Triton 3.8 and 3.9 spread rows all the same.
    """
    return tl.where(rows < 0, 2, 1)


@triton.jit
def aligned_down(pointers):
    """The multiple of 16 bytes at or below each address, which the compiler then knows to be one."""
    return tl.multiple_of((pointers.to(tl.int64) // 16 * 16).to(pointers.dtype), 16)


@triton.jit
def columns_of(
    classes,
    rows,
    PER_LOAD: tl.constexpr,  # logits in 16 bytes
    ALIGNED: tl.constexpr,  # every row starts at a multiple of 16 bytes
    WHOLE: tl.constexpr,  # each lane takes whole rows
    COLUMNS: tl.constexpr,
):
    """(column, inside, at): the columns (1, COLUMNS), which of them are classes, and their offsets in a row."""
    column = tl.arange(0, COLUMNS)[None, :]
    inside = column < classes
    at = column
    if ALIGNED:
        # The same columns. But this mask is seen to be constant over 16 bytes, so it does not split the loads.
        inside = column // PER_LOAD * PER_LOAD < classes
    if WHOLE:
        at = column * hidden_one(rows)
    return column, inside, at
