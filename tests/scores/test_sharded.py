"""DTensors, on two Gloo processes. Those that are sharded over classes are in test_class_parallel.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch.distributed as dist
from helpers import under_torchrun


@pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available()), reason="torch without the Gloo backend")
def test_rows_replicated_or_sharded() -> None:
    output = under_torchrun.run(Path(__file__).with_name("dtensor_worker.py"), 2)
    assert output.count("all agree") == 2, output
