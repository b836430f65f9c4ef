"""Logits whose classes are spread over ranks, on 2 and 4 Gloo processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from helpers import under_torchrun

import fastprune


@pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available()), reason="torch without the Gloo backend")
@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_together_are_one_process(ranks: int) -> None:
    output = under_torchrun.run(Path(__file__).with_name("class_parallel_worker.py"), ranks)
    assert output.count("all agree") == ranks, output


@pytest.mark.parametrize("call", [fastprune.el2n, fastprune.score, fastprune.cross_entropy])
def test_a_group_without_processes_is_refused(call) -> None:
    with pytest.raises(ValueError, match="torch.distributed is not initialised"):
        call(torch.zeros(2, 3), torch.tensor([0, 1]), group=object())
