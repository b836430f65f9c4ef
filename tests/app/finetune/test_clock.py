"""Seconds of the parts of a run."""

from __future__ import annotations

import time

import pytest

from fastprune.app.finetune.clock import Clock


def test_a_part_within_a_part_stops_the_outer_one() -> None:
    clock = Clock()
    clock.start("train")
    with clock.part("score"):
        time.sleep(0.05)
    with clock.part(None):
        time.sleep(0.05)
    clock.stop()
    time.sleep(0.02)
    clock.stop()
    assert clock.seconds["score"] >= 0.05 > 0.02 > clock.seconds["train"] >= 0
    assert clock.total == pytest.approx(clock.seconds["score"] + clock.seconds["train"])
