"""`fastprune.attach` under torchrun on 2 and 4 Gloo processes; the assertions are in trainer_worker.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch.distributed as dist
import under_torchrun
from trainer_worker import METHODS, SECONDS, setups_of

WORKER = Path(__file__).with_name("trainer_worker.py")
needs_gloo = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="torch without the Gloo backend"
)


def trained(ranks: int, folder: Path, what: str) -> str:
    output = under_torchrun.run(WORKER, ranks, str(folder), what, seconds=SECONDS)
    assert output.count("is done") == ranks, output
    return output


@needs_gloo
def test_methods_agree_on_all_ranks_and_resume_exactly(tmp_path):
    output = trained(2, tmp_path, "methods")
    assert [name for name in METHODS if f"method {name} agrees" not in output] == []


@needs_gloo
@pytest.mark.parametrize("ranks", [2, 4])
def test_setups(tmp_path, ranks):
    output = trained(ranks, tmp_path, "setups")
    assert [setup for setup in setups_of(ranks) if "setup {} {} holds".format(*setup) not in output] == []
