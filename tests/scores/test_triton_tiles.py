"""The Triton kernels of tiles in Triton's interpreter. test_scores_triton.py runs this file in a process of its own."""

from __future__ import annotations

import os

import pytest
import row_score_cases as cases
import tile_cases
import torch

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("run with TRITON_INTERPRET=1, as test_scores_triton.py does", allow_module_level=True)

from helpers.interpreter_fixes import mend_interpreter

from fastprune.scores import triton_tile_sums

mend_interpreter()
LOSS_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize(
    ("classes", "dtype"),
    [(1, torch.float32), (7, torch.bfloat16), (150, torch.float16), (1000, torch.float32), (7000, torch.bfloat16)],
)
def test_scores_of_tiles(classes: int, dtype: torch.dtype) -> None:
    cases.check_accuracy(tile_cases.by_tiles(triton_tile_sums.add_tile, triton_tile_sums.close_sums), classes, dtype)


@pytest.mark.parametrize(("dtype", "smoothing"), list(zip(LOSS_DTYPES, (0.0, 0.1, 1.0), strict=True)))
def test_losses_and_gradients(dtype: torch.dtype, smoothing: float) -> None:
    for classes in (2, 33, 3000):
        tile_cases.check_losses_and_gradients(triton_tile_sums, classes, dtype, smoothing)


def test_masked_classes_and_nan() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 90, generator=generator) * 5
    logits[0, 3], logits[1, 50], logits[2] = torch.nan, torch.inf, -torch.inf
    logits[3, :60], logits[4, 1:] = -torch.inf, -torch.inf
    labels = torch.randint(90, (12,), generator=generator)
    labels[4], labels[5], logits[5, 7] = 0, 7, -torch.inf
    tile_cases.check_against_definition(
        logits, labels, [30, 30, 30], triton_tile_sums.add_tile, triton_tile_sums.close_sums
    )
