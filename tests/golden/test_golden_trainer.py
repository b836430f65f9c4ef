"""Every method in a Hugging Face Trainer does what it did when the records were written."""

from __future__ import annotations

import functools
import shutil

import pytest

for name in ("datasets", "transformers", "accelerate"):
    pytest.importorskip(name)

from golden import recordings  # noqa: E402
from golden.cases import CASES, PLACES, RESUMED, STATES  # noqa: E402
from golden.recordings import batches_until, check, check_rest, state_file  # noqa: E402
from golden.trainer_loop import SETTINGS, STATE_FILE, checkpoint, run  # noqa: E402

RECORDS = recordings.read("trainer")


def test_there_is_a_record_of_every_method():
    assert set(RECORDS) == {*CASES, *SETTINGS}, "run `python -m golden.record trainer`"


@pytest.mark.parametrize("case", [*CASES, *SETTINGS])
def test_a_run_is_the_recorded_one(tmp_path, case):
    check(run(case, RECORDS[case]["data"], tmp_path), RECORDS[case])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The record of an uninterrupted run, and the folder with its checkpoints."""

    @functools.cache
    def trained(case: str):
        folder = tmp_path_factory.mktemp(case)
        steps = [batches_until(RECORDS[case], place) for place in PLACES["trainer"]]
        return run(case, RECORDS[case]["data"], folder, noise=True, save=steps), folder

    return trained


@pytest.mark.parametrize("place", PLACES["trainer"])
@pytest.mark.parametrize("case", RESUMED)
def test_an_interrupted_run_goes_on_to_the_same_end(tmp_path, whole, case, place):
    record, folder = whole(case)
    after = batches_until(RECORDS[case], place)
    again = run(case, RECORDS[case]["data"], tmp_path, noise=True, resume=checkpoint(folder, after))
    check_rest(again, record, after)


@pytest.mark.parametrize("place", STATES["trainer"])
def test_a_state_saved_then_is_read_and_goes_on_as_recorded(tmp_path, place):
    """The rest of the checkpoint is of this machine and its version of transformers."""
    case = STATES["trainer"][place]
    data, after = RECORDS[case]["data"], batches_until(RECORDS[case], place)
    run(case, data, tmp_path / "whole", save=[after])
    saved = checkpoint(tmp_path / "whole", after)
    shutil.copyfile(state_file("trainer", case, place), saved / STATE_FILE)
    check(run(case, data, tmp_path / "again", resume=saved), RECORDS[case], after)
