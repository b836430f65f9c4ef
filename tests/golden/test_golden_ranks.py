"""A Trainer on two processes does what it did when the records were written."""

from __future__ import annotations

import pytest
import torch.distributed as dist

for name in ("datasets", "transformers", "accelerate"):
    pytest.importorskip(name)

from helpers.older_trainers import NO_RESUME_ON_CPUS  # noqa: E402

from golden import recordings  # noqa: E402
from golden.cases import RANKS  # noqa: E402
from golden.ranks import records_of  # noqa: E402
from golden.recordings import batches_until, check, check_rest, record_of  # noqa: E402

RECORDS = recordings.read("ranks")
RESUMED = {"inside": "infobatch", "end": "el2n"}
resumes = pytest.mark.skipif(NO_RESUME_ON_CPUS, reason="transformers before 5.18 resumes no processes on CPUs")
pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="torch without the Gloo backend"
)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The records of all runs by name; the processes are started once."""
    jobs = [{"name": case, "case": case, "data": RECORDS[case]["data"]} for case in RANKS]
    for place, case in () if NO_RESUME_ON_CPUS else RESUMED.items():
        run = {"case": case, "data": RECORDS[case]["data"], "noise": True}
        jobs.append({"name": f"{case} whole", **run, "save": batches_until(RECORDS[case], place)})
        jobs.append({"name": f"{case} again", **run, "resume": f"{case} whole"})
    return records_of(jobs, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("case", RANKS)
def test_a_run_is_the_recorded_one(found, case):
    check(record_of(found[case]), RECORDS[case])


@resumes
@pytest.mark.parametrize("place", RESUMED)
def test_an_interrupted_run_goes_on_to_the_same_end(found, place):
    case = RESUMED[place]
    after = batches_until(RECORDS[case], place)
    check_rest(record_of(found[f"{case} again"]), record_of(found[f"{case} whole"]), after)
