"""Leads and their intervals: what is paired, what is resampled, and that a resample has the metric's own value."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.made_up_lines import line_of
from helpers.tiny_runs import tiny_run

from benchmarks.evidence.measures import packed, two_class_metrics
from benchmarks.evidence.paired import Way, lead, leads, mean_lead, resampled

TEXTS = 300


def answered(run, right, **more):
    line = line_of(run, figure=float(np.mean(right)))
    return {**line, "answers": {"texts": len(right), "right": packed(list(right))}, **more}


def lines(method, share, seeds=(0, 1, 2), **arguments):
    """Lines of a way that answers about ``share`` of the texts rightly: easy texts are easy for every way."""
    rng = np.random.default_rng(9)
    ease = rng.random(TEXTS)
    found = []
    for seed in seeds:
        noise = np.random.default_rng([seed, len(method)]).normal(0, 0.02, TEXTS)
        found.append(answered(tiny_run(method, seed=seed, **arguments), ease + noise < share))
    return found


def test_a_lead_is_the_mean_of_the_differences_of_equal_seeds():
    ours, theirs = lines("el2n-free", 0.8, budget=0.5), lines("full", 0.7, seeds=(1, 2, 3))
    found = lead(ours, theirs)
    by_seed = {line["arguments"]["seed"]: line["figure"] for line in theirs}
    wanted = [100 * (line["figure"] - by_seed[s]) for line in ours if (s := line["arguments"]["seed"]) in by_seed]
    assert found.seeds == 2 and found.points == pytest.approx(np.mean(wanted))
    assert lead(ours[:1], theirs) is None, "no seed in common"


def test_the_interval_holds_the_lead_and_is_that_of_pairs():
    ours, theirs = lines("el2n-free", 0.75, budget=0.5), lines("full", 0.7)
    found = lead(ours, theirs)
    low, high = found.interval()
    assert low < found.points < high
    # By itself a figure of 300 texts is uncertain by 2.6 points. What both ways have in common cancels.
    assert high - low < 2 * 1.96 * 2.6 * 2**0.5
    assert low > 0.0, "a lead of 5 points on the same texts is seen"
    narrow = found.interval(0.5)
    assert low < narrow[0] < narrow[1] < high


def test_equal_ways_have_no_lead():
    ours, theirs = lines("el2n-free", 0.7, budget=0.5), lines("full", 0.7)
    low, high = lead(ours, theirs).interval()
    assert low < 0.0 < high
    same = lead(theirs, theirs)
    assert same.points == 0.0 and same.interval() == (0.0, 0.0)


def test_without_answers_the_seeds_are_resampled():
    ours = [line_of(tiny_run("el2n-free", seed=s, budget=0.5), figure=0.5 + 0.1 * s) for s in range(3)]
    theirs = [line_of(tiny_run("full", seed=s), figure=0.5) for s in range(3)]
    found = lead(ours, theirs)
    assert found.points == pytest.approx(10.0)
    # A mean of three drawn seeds is 10 plus a third of -30 to 30, stretched to the spread of three new seeds.
    assert set(np.round(found.draws, 4)) <= {round(10 + 1.5**0.5 * 10 * k / 3, 4) for k in range(-3, 4)}
    assert found.draws.std() == pytest.approx(np.std([0, 10, 20], ddof=1) / 3**0.5, rel=0.1)
    assert lead(ours, theirs, "validation") is None, "there is no such figure"


@pytest.mark.parametrize("metric", ["f1", "matthews"])
def test_a_resample_has_the_figure_of_the_drawn_texts(metric):
    rng = np.random.default_rng(3)
    gold, predicted = rng.random(50) < 0.4, rng.random(50) < 0.5
    line = answered(tiny_run("full"), gold == predicted, metric=metric)
    line["answers"]["positive"] = packed(list(gold))
    weights = rng.multinomial(50, np.full(50, 1 / 50), size=5)
    for weight, found in zip(weights, resampled(line, weights), strict=True):
        names = [["no", "yes"][int(bit)] for bits in (predicted, gold) for bit in np.repeat(bits, weight)]
        wanted = two_class_metrics(names[:50], names[50:], positive="yes")[metric]
        assert found == pytest.approx(wanted)


def test_a_resample_without_positives_is_zero_and_not_nan():
    line = answered(tiny_run("full"), np.zeros(8, bool), metric="matthews")
    line["answers"]["positive"] = packed([False] * 8)
    assert resampled(line, np.ones((2, 8), dtype=int)).tolist() == [0.0, 0.0]


def test_data_sets_count_alike_in_the_mean():
    far, near = lines("el2n-free", 0.9, budget=0.5), lines("full", 0.7)
    moved = [{**line, "arguments": {**line["arguments"], "data": "snips"}} for line in near]
    equal = [{**line, "label": "el2n-free", "arguments": {**line["arguments"], "budget": 0.5}} for line in moved]
    found = leads([*far, *near, *moved, *equal], Way("el2n-free", 0.5), Way("full"))
    assert set(found) == {"atis", "snips"} and found["snips"].points == 0.0
    mean = mean_lead(found.values())
    assert mean.points == pytest.approx(found["atis"].points / 2) and mean.seeds == 3
