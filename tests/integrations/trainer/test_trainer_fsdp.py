"""The Trainer's and Accelerate's own FSDP on two Gloo processes: what they keep is what two DDP processes keep.

Accelerate ignores FSDP on the CPU.  `helpers.fsdp_on_cpu` changes that decision and nothing else.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from helpers import under_torchrun

pytest.importorskip("accelerate", minversion="1.15")
pytest.importorskip("transformers", minversion="5.0")
pytestmark = [
    pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available()), reason="torch without the Gloo backend"),
    pytest.mark.skipif(not hasattr(torch.cpu.Stream, "record_event"), reason="fully_shard of this torch needs a GPU"),
]
METHODS = ("el2n-free", "el2n")
TUNES = ["sft el2n-free", "sft el2n", "sft infobatch"] if importlib.util.find_spec("trl") else []
EPOCHS = 4


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("fsdp")
    under_torchrun.run(Path(__file__).with_name("fsdp_trainer_worker.py"), 2, str(folder))
    return lambda case: torch.load(folder / f"{case}.result", weights_only=False)


@pytest.mark.parametrize("case", [*METHODS, *TUNES, "loop"])
def test_a_sharded_model_keeps_what_a_whole_one_keeps(found: Any, case: str) -> None:
    whole, sharded = found(f"{case}-ddp"), found(f"{case}-fsdp")
    kept = whole[0]["kept"]
    assert len(kept) == EPOCHS and kept[0] == list(range(len(kept[0]))), "first everything"
    assert len({tuple(kept[epoch]) for epoch in range(1, EPOCHS)}) > 1, "the kept set changes"
    for rank in (*whole, *sharded):
        assert rank["kept"] == kept
        torch.testing.assert_close(rank["head"], whole[0]["head"], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_sharded_run_goes_on_from_its_checkpoint(found: Any, method: str) -> None:
    whole = found(f"{method}-fsdp")
    for rank, again in zip(whole, found(f"{method}-again"), strict=True):
        assert again["kept"] == {epoch: kept for epoch, kept in rank["kept"].items() if epoch >= 2}
        assert torch.equal(again["head"], rank["head"])
        torch.testing.assert_close(again["history"], rank["history"], rtol=0, atol=0)
