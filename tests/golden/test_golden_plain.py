"""Every method in a user's own loop does what it did when the records were written."""

from __future__ import annotations

import io

import pytest
import torch

from golden import recordings
from golden.cases import CASES, PLACES, RESUMED, STATES
from golden.plain_loop import SETTINGS, PlainLoop
from golden.recordings import batches_until, check, check_rest

RECORDS = recordings.read("plain")


def test_there_is_a_record_of_every_method():
    assert set(RECORDS) == {*CASES, *SETTINGS}, "run `python -m golden.record plain`"


@pytest.mark.parametrize("case", [*CASES, *SETTINGS])
def test_a_run_is_the_recorded_one(tmp_path, case):
    check(PlainLoop(case, RECORDS[case]["data"], tmp_path).run().record, RECORDS[case])


@pytest.mark.parametrize("place", PLACES["plain"])
@pytest.mark.parametrize("case", [*RESUMED, *SETTINGS])
def test_an_interrupted_run_goes_on_to_the_same_end(tmp_path, case, place):
    data, after = RECORDS[case]["data"], batches_until(RECORDS[case], place)
    whole = PlainLoop(case, data, tmp_path).run()
    stopped = PlainLoop(case, data, tmp_path).run(after, scored=place == "scored")
    file = io.BytesIO()
    torch.save(stopped.state(), file)
    file.seek(0)
    again = PlainLoop(case, data, tmp_path).load(torch.load(file, weights_only=True)).run()
    check_rest(again.record, whole.record, after)
    assert stopped.record.scored + again.record.scored == whole.record.scored


@pytest.mark.parametrize("place", STATES["plain"])
def test_a_state_saved_then_is_read_and_goes_on_as_recorded(tmp_path, place):
    case = STATES["plain"][place]
    loop = PlainLoop(case, RECORDS[case]["data"], tmp_path)
    loop.load(recordings.load_state("plain", case, place))
    check(loop.run().record, RECORDS[case], batches_until(RECORDS[case], place))
