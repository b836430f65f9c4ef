"""`fastprune.attach` under torchrun on 2 Gloo processes, and on 4 in `make soak`; trainer_worker.py asserts.

The 4 repeat two setups of the 2, and take a minute on two cores.  Other tests have 4 ranks: test_distributed.py,
test_plain_ddp.py and test_accelerate.py.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest
import torch.distributed as dist
from helpers import under_torchrun
from trainer_worker import METHODS, SECONDS, setups_of

WORKER = Path(__file__).with_name("trainer_worker.py")
pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="torch without the Gloo backend"
)


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What all ranks wrote, by their number; each number is started once."""

    @functools.cache
    def trained(ranks: int) -> str:
        folder = tmp_path_factory.mktemp("ranks")
        output = under_torchrun.run(WORKER, ranks, str(folder), seconds=SECONDS)
        assert output.count("is done") == ranks, output
        return output

    return trained


def test_methods_agree_on_all_ranks_and_resume_exactly(said):
    assert [name for name in METHODS if f"method {name} agrees" not in said(2)] == []


@pytest.mark.parametrize("ranks", [2, 4] if "FASTPRUNE_SOAK" in os.environ else [2])
def test_setups(said, ranks):
    assert [setup for setup in setups_of(ranks) if "setup {} {} holds".format(*setup) not in said(ranks)] == []
