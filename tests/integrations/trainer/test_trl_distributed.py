"""TRL's SFTTrainer on 2 Gloo processes: what one process does with batches of twice the size; trl_worker.py runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist

pytest.importorskip("trl")

from helpers import under_torchrun  # noqa: E402
from trl_worker import SETUPS, all_setups  # noqa: E402

WORKER = Path(__file__).with_name("trl_worker.py")
pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="torch without the Gloo backend"
)


def test_two_processes_train_as_one_does(tmp_path):
    output = under_torchrun.run(WORKER, 2, str(tmp_path), "2", seconds=300)
    assert output.count("is done") == 2, output
    both, one = torch.load(tmp_path / "found.pt"), all_setups(tmp_path / "one", 4)
    for name in SETUPS:
        assert both[name]["steps"] == one[name]["steps"]
        assert torch.equal(both[name]["kept"], one[name]["kept"]), name
        for key, value in one[name].items():
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                torch.testing.assert_close(both[name][key], value, rtol=1e-4, atol=1e-5, msg=f"{name}: {key}")
