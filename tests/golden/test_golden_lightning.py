"""Every method in a Lightning Trainer does what it did when the records were written."""

from __future__ import annotations

import functools

import pytest

pytest.importorskip("lightning")

import torch  # noqa: E402

from golden import recordings  # noqa: E402
from golden.cases import CASES, PLACES, RESUMED, STATES  # noqa: E402
from golden.lightning_loop import SETTINGS, STATE_KEY, checkpoint, run  # noqa: E402
from golden.recordings import batches_until, check, check_rest  # noqa: E402

RECORDS = recordings.read("lightning")
pytestmark = pytest.mark.filterwarnings("ignore")


def test_there_is_a_record_of_every_method():
    assert set(RECORDS) == {*CASES, *SETTINGS}, "run `python -m golden.record lightning`"


@pytest.mark.parametrize("case", [*CASES, *SETTINGS])
def test_a_run_is_the_recorded_one(tmp_path, case):
    check(run(case, RECORDS[case]["data"], tmp_path), RECORDS[case])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The record of an uninterrupted run, and the folder with its checkpoints."""

    @functools.cache
    def trained(case: str):
        folder = tmp_path_factory.mktemp(case)
        steps = [batches_until(RECORDS[case], place) for place in PLACES["lightning"]]
        return run(case, RECORDS[case]["data"], folder, save=steps), folder

    return trained


@pytest.mark.parametrize("place", PLACES["lightning"])
@pytest.mark.parametrize("case", RESUMED)
def test_an_interrupted_run_goes_on_to_the_same_end(tmp_path, whole, case, place):
    record, folder = whole(case)
    after = batches_until(RECORDS[case], place)
    again = run(case, RECORDS[case]["data"], tmp_path, resume=checkpoint(folder, after))
    check_rest(again, record, after)


@pytest.mark.parametrize("place", STATES["lightning"])
def test_a_state_saved_then_is_read_and_goes_on_as_recorded(tmp_path, whole, place):
    """The rest of the checkpoint is of this machine and its version of Lightning."""
    case = STATES["lightning"][place]
    after = batches_until(RECORDS[case], place)
    saved = torch.load(checkpoint(whole(case)[1], after), weights_only=True)
    assert STATE_KEY in saved["callbacks"]
    saved["callbacks"][STATE_KEY] = recordings.load_state("lightning", case, place)
    torch.save(saved, tmp_path / "then.ckpt")
    check(run(case, RECORDS[case]["data"], tmp_path, resume=tmp_path / "then.ckpt"), RECORDS[case], after)
