"""Pairs of parameters are all tried."""

from __future__ import annotations

import itertools

import pytest

from helpers.combinations import pairwise


@pytest.mark.parametrize(
    "axes", [("ab", "xy", "123"), ("abcd", "12", "xyz"), ("ab", "xyz"), ("abc", "123", "xyz", "01")]
)
def test_every_two_values_of_two_axes_meet(axes: tuple[str, ...]) -> None:
    chosen = pairwise(*axes)
    for (one, values), (other, others) in itertools.combinations(enumerate(axes), 2):
        assert {(row[one], row[other]) for row in chosen} == set(itertools.product(values, others))
    assert len(chosen) == len(set(chosen)) <= len(list(itertools.product(*axes)))
