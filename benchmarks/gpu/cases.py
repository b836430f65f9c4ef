"""The sizes of the steps, real ones for a GPU and toy ones for a rehearsal.

`compile_ahead` reads them too: every size is a variant of some kernels, and a variant that only a step knows is
compiled while the GPU waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# name -> (PyTorch's name, bytes). PyTorch itself is not imported: the page of results is made without it.
DTYPES = {"bf16": ("bfloat16", 2), "fp16": ("float16", 2), "fp32": ("float32", 4), "fp64": ("float64", 8)}


@dataclass(frozen=True)
class Size:
    """Logits of one shape and dtype."""

    rows: int
    classes: int
    dtype: str

    @property
    def itemsize(self) -> int:
        return DTYPES[self.dtype][1]

    @property
    def torch_dtype(self) -> Any:
        """The torch.dtype."""
        import torch

        return getattr(torch, DTYPES[self.dtype][0])

    @property
    def logits(self) -> int:
        return self.rows * self.classes

    def __str__(self) -> str:
        return f"{self.rows:,} x {self.classes:,} {self.dtype}"


# Step 4, and of it step 8, in the order of worth.
SPEED = (
    Size(8_192, 128_256, "bf16"),
    Size(16_384, 50_257, "bf16"),
    Size(8_192, 32_000, "fp32"),
    Size(65_536, 1_000, "fp32"),
    Size(1_048_576, 7, "fp32"),
    Size(65_536, 1_000, "bf16"),
    Size(1_048_576, 7, "bf16"),
)
TOY_SPEED = (Size(4, 3_000, "bf16"), Size(8, 100, "fp32"))

# Step 10: 1 GiB of logits, or 2^21 rows.
SWEEP = tuple(
    Size(min(2**21, 2**30 // (classes * DTYPES[dtype][1])), classes, dtype)
    for classes in (2, 50, 150, 512, 4_096, 16_384, 65_536, 200_000)
    for dtype in ("bf16", "fp32")
)
TOY_SWEEP = (Size(8, 50, "bf16"),)


@dataclass(frozen=True)
class Case:
    """Rows whose scores, loss and gradient are held to fp64.

    Args:
        mask: the value of masked classes; None without a mask.
        where: which classes are masked: "tail" from 65,536 on or the second half, "head" the first half, "label" all
            but the label, "all" every class.
    """

    size: Size
    mask: float | None = None
    where: str = "tail"

    def __str__(self) -> str:
        return str(self.size) if self.mask is None else f"{self.size}, {self.where} {self.mask:g}"


def _masked(rows: int, classes: int, dtype: str, where: str, *values: float) -> list[Case]:
    return [Case(Size(rows, classes, dtype), value, where) for value in values]


# Step 3. The first mask is the one that gave NaN.
ACCURACY = (
    Case(Size(64, 128_256, "bf16")),
    *_masked(16, 70_000, "bf16", "tail", -1e10, -1e9, -1.6e9, -1e20, -1e30, -1e37, -3e38),
    *_masked(16, 70_000, "bf16", "label", -1e10, -1e30),
    *_masked(16, 70_000, "bf16", "head", -1e10, -1e20),
    *_masked(16, 70_000, "bf16", "all", -1e10, 1e10),
    *_masked(16, 70_000, "fp32", "tail", -1e10, -3e38),
    *_masked(16, 70_000, "fp16", "label", -6e4),
    Case(Size(64, 7, "fp32")),
    Case(Size(64, 150, "bf16")),
    Case(Size(64, 1_000, "fp16")),
    Case(Size(64, 2_049, "bf16")),
    Case(Size(64, 4_000, "bf16")),
    Case(Size(64, 32_000, "fp32")),
    Case(Size(64, 50_257, "bf16")),
    Case(Size(16, 128_256, "fp64")),
)
TOY_ACCURACY = (
    Case(Size(11, 7, "fp32")),
    Case(Size(11, 2_500, "bf16")),
    *_masked(4, 2_500, "bf16", "label", -1e10),
    *_masked(4, 2_500, "bf16", "head", -1e20),
    *_masked(4, 2_500, "bf16", "all", 1e10),
    *_masked(4, 2_500, "fp32", "tail", -1e30),
)

# Step 6.
SELECTION = tuple((kind, 10_000_000, keep) for kind in ("uniform", "ties") for keep in (0.01, 0.5))
TOY_SELECTION = (("uniform", 5_000, 0.5),)

# Step 7: rows, hidden, classes, dtype. The first is what Liger publishes 12.3 ms for.
HEAD = ((8_192, 4_096, 131_072, "bf16"), (8_192, 2_048, 32_000, "bf16"))
TOY_HEAD = ((6, 8, 300, "bf16"),)

# Step 5: MiniLM-L6's shape, and what it is fed.
TRAINING = {"layers": 6, "hidden": 384, "vocabulary": 30_522, "batch": 32, "tokens": 128, "classes": 7, "pairs": 220}
TOY_TRAINING = {"layers": 1, "hidden": 32, "vocabulary": 500, "batch": 8, "tokens": 16, "classes": 7, "pairs": 3}
