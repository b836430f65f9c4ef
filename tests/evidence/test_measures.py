"""What a result line keeps of a model's answers is enough for its figure."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.tiny_runs import tiny_run, training

from benchmarks.evidence.measures import answers, evaluate, packed, unpacked

pytestmark = pytest.mark.usefixtures("own_random_state")


@pytest.mark.parametrize("count", [1, 7, 8, 9, 1000])
def test_packed_bits_come_back(count):
    bits = np.random.default_rng(count).random(count) < 0.5
    assert (unpacked(packed(list(bits)), count) == bits).all()


def test_the_figure_is_the_mean_of_the_right_answers(prepared, encoder):
    run = training(tiny_run("full", epochs=2), prepared, encoder)
    run.finish()
    found = answers(run.model, prepared, "test", bf16=False)
    assert found["texts"] == len(prepared.splits["test"])
    right = unpacked(found["right"], found["texts"])
    figure = evaluate(run.model, prepared, "test", bf16=False)["exact_match"]
    assert 0.0 < figure < 1.0, "the test sees right and wrong answers"
    assert right.mean() == pytest.approx(figure, abs=1e-6)
