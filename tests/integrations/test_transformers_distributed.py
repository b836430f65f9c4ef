"""`fastprune.attach` under torchrun on 2 and 4 Gloo processes; the assertions are in trainer_worker.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed as dist
from trainer_worker import SECONDS

HERE = Path(__file__).parent
needs_gloo = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="torch without the Gloo backend"
)


def under_torchrun(ranks: int, folder: Path, what: str) -> str:
    """The output of all ranks."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
    path = os.pathsep.join([str(HERE), *(p for p in sys.path if p)])
    done = subprocess.run(
        [*torchrun, f"--nproc-per-node={ranks}", str(HERE / "trainer_worker.py"), str(folder), what],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS + 60,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    assert done.stdout.count("is done") == ranks, done.stdout[-8000:]
    return done.stdout


@needs_gloo
def test_every_method_agrees_on_all_ranks_and_resumes_exactly(tmp_path):
    from fastprune.pruning import method_names

    output = under_torchrun(2, tmp_path, "methods")
    assert [name for name in method_names() if f"method {name} agrees" not in output] == []


@needs_gloo
@pytest.mark.parametrize("ranks", [2, 4])
def test_setups(tmp_path, ranks):
    under_torchrun(ranks, tmp_path, "setups")
