"""Places are counted on what all ways share."""

from __future__ import annotations

import math

from helpers.made_up_lines import line_of
from helpers.tiny_runs import tiny_run

from benchmarks.evidence.paired import Way
from benchmarks.evidence.ranks import mean_ranks, rank_correlation

WAYS = [Way("el2n-free", 0.5), Way("rs2", 0.5), Way("loss", 0.5)]


def line(method, figure, data="atis", seed=0):
    return line_of(tiny_run(method, data=data, seed=seed, budget=0.5), figure=figure)


def test_places_are_means_over_data_sets():
    lines = [line("el2n-free", 0.9), line("rs2", 0.8), line("loss", 0.7)]
    lines += [line("el2n-free", 0.5, "trec"), line("rs2", 0.5, "trec"), line("loss", 0.7, "trec")]
    assert list(mean_ranks(lines, WAYS).values()) == [(1 + 2.5) / 2, (2 + 2.5) / 2, (3 + 1) / 2]


def test_what_one_way_lacks_is_left_out_for_all():
    lines = [line("el2n-free", 0.9), line("rs2", 0.8), line("loss", 0.7)]
    extra = [line("rs2", 0.99, seed=1), line("loss", 1.0, "trec")]
    assert mean_ranks(lines + extra, WAYS) == mean_ranks(lines, WAYS)
    assert mean_ranks(extra, WAYS) == {}


def test_the_correlation_of_places_knows_order_alone():
    assert rank_correlation([1, 2, 3, 4], [1, 10, 100, 1000]) == 1.0
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]) == -1.0
    assert math.isnan(rank_correlation([1, 1, 1], [1, 2, 3])) and math.isnan(rank_correlation([1, 2], [1, 2]))
