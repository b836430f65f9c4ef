"""Tiles: how many short rows share a program, on how many threads, and how they are read.

A tile is ROWS rows of COLUMNS classes in registers. COLUMNS is a power of two, at least C. Rows of at most 1024 classes
are reduced within one warp, which needs no barriers. Every thread of a row computes its closed forms, so few threads a
row also repeat them least.
"""

from __future__ import annotations

import triton
import triton.language as tl

# The most classes of a short row. Longer rows are cut into segments (`triton_long_rows`), whose fixed cost counts less
# the longer they are. At 4096 classes a tile is still faster: on an H100 it takes 0.77 (bf16) and 0.86 (fp32) of the
# time of a segment. But the number of its columns is a power of two, so it pays only just below 4096 classes.
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
    """The number 1, hidden from the compiler, which does not know that `rows` is never negative.

    If each lane of a warp is to take whole rows, columns are multiplied by it. So the compiler does not see that
    columns lie side by side. If it saw that, it would spread a row that is no multiple of 16 bytes over several lanes.
    Each lane would then repeat the closed forms of the 8 rows that it has a part of. A lane with whole rows reads most
    logits from the L1 cache. Counted with Triton 3.6 at 7 classes, that is 47 instructions a logit instead of 180.
    Triton 3.8 and 3.9 still spread rows.
    """
    return tl.where(rows < 0, 2, 1)


@triton.jit
def aligned_down(pointers):
    """Each address, rounded down to a multiple of 16 bytes. The compiler then knows that it is one."""
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
        # The same columns. But the compiler sees that this mask is constant over 16 bytes, so it does not split the
        # loads.
        inside = column // PER_LOAD * PER_LOAD < classes
    if WHOLE:
        at = column * hidden_one(rows)
    return column, inside, at
