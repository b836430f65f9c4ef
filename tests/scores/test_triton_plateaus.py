"""Rows in which many classes hold one value, through the Triton kernels in Triton's interpreter.

Run by test_scores_triton.py in a process of its own, as test_triton_interpreted.py is. FASTPRUNE_FUZZ sets the
number of examples of each test.
"""

from __future__ import annotations

import os

import plateau_cases
import pytest
import row_score_cases as cases
import torch
import triton_cases
from helpers.combinations import some
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("run with TRITON_INTERPRET=1, as test_scores_triton.py does", allow_module_level=True)

from helpers.interpreter_fixes import mend_interpreter

from fastprune.scores import triton_long_rows, triton_tiles

mend_interpreter()

search = settings(
    max_examples=int(os.environ.get("FASTPRUNE_FUZZ", "4")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking takes minutes in the interpreter
)


@pytest.fixture
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row goes through the loop over segments, and segments are short."""
    monkeypatch.setattr(triton_tiles, "SHORT", 1)
    monkeypatch.setattr(triton_long_rows, "segment_classes", lambda itemsize: plateau_cases.SEGMENT)


@pytest.mark.parametrize("dtype", cases.DTYPES)
@search
@given(data=st.data())
def test_scores_of_plateaus(dtype: torch.dtype, data: st.DataObject, short_segments: None) -> None:
    triton_cases.check_scores(*data.draw(plateau_cases.rows(dtype)))


@pytest.mark.parametrize("dtype", cases.DTYPES)
@search
@given(data=st.data())
def test_scores_of_short_rows(dtype: torch.dtype, data: st.DataObject) -> None:
    triton_cases.check_scores(*data.draw(plateau_cases.rows(dtype, longest=1100)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@search
@given(data=st.data())
def test_losses_and_gradients_of_plateaus(dtype: torch.dtype, data: st.DataObject, short_segments: None) -> None:
    logits, labels = data.draw(plateau_cases.rows(dtype))
    weighted, smoothing = data.draw(st.booleans()), data.draw(st.sampled_from([0.0, 0.1, 1.0]))
    triton_cases.check_loss_of(logits, labels, weighted, smoothing)


@pytest.mark.parametrize("mask", some((-1e10, -1e30, 3e38), (-1e10, 3e38)))
def test_a_masked_segment_of_full_length(mask: float) -> None:
    triton_cases.check_masked_segment(mask)
