"""select_topk on CUDA tensors; imports only what a bare GPU machine has."""

from __future__ import annotations

import pytest
import torch

from fastprune.selection import select_topk


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_tensors_come_back_on_their_device() -> None:
    scores = torch.tensor([1.0, 3.0, 3.0], device="cuda")
    got = select_topk(scores, 1)
    assert got.device == scores.device and got.tolist() == [1]
