"""OrderDP, SeTa, UCB, CCS, RS2 and random subsets."""

import itertools
import math
import time

import numpy as np
import pytest
import torch
from helpers.recorded import Recorded, scored, top, uniform
from hypothesis import given
from hypothesis import strategies as st

from fastprune.methods.ccs import CCS
from fastprune.methods.kmeans import kmeans_groups
from fastprune.methods.orderdp import OrderDP
from fastprune.methods.seta import SeTa
from fastprune.methods.ucb import UCB
from fastprune.pruning import History, get_method
from fastprune.selection import random

SEEDS = 400


# --- orderdp ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio, k", [(0.6, 12), (0.3, 5), (1.0, 10), (0.1, 30)])
def test_orderdp_keeps_the_hardest_of_a_uniform_pool(ratio, k):
    method = OrderDP(ratio=ratio)
    run = Recorded(method, uniform)
    last = [values[-1] for values in run.past]
    pool = random(run.n, min(run.n, round(k / ratio)), seed=5, round=2).indices.tolist()
    expected = sorted(sorted(pool, key=lambda i: (-last[i], i))[:k])
    assert run.select(method, k, cycle=2, seed=5).indices.tolist() == expected


def test_orderdp_keeps_the_hardest_as_often_as_it_is_in_the_pool():
    method = OrderDP(ratio=0.5)
    history = scored(method, np.arange(40.0))
    kept = [method.select(history, 8, cycle=1, epoch=1, seed=s).indices.tolist() for s in range(SEEDS)]
    share = 16 / 40
    for hard in (39, 38):
        found = sum(hard in indices for indices in kept)
        assert abs(found - SEEDS * share) < 5 * (SEEDS * share * (1 - share)) ** 0.5
    assert not any(set(indices) & set(range(7)) for indices in kept), "at least 8 of 16 are harder than the last 7"


@pytest.mark.parametrize("ratio", [0.0, 1.1, float("nan")])
def test_orderdp_names_a_bad_ratio(ratio):
    with pytest.raises(ValueError, match="ratio"):
        OrderDP(ratio=ratio)


# --- seta ------------------------------------------------------------------------------------------


def squared_error(values, group):
    """What k-means makes small."""
    return sum(((values[group == g] - values[group == g].mean()) ** 2).sum() for g in set(group.tolist()))


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=80), st.integers(1, 8))
def test_groups_are_a_fixed_point_of_lloyds_algorithm(values, groups):
    values = np.array(values)
    group = kmeans_groups(torch.tensor(values), groups).numpy()
    order = np.argsort(values, kind="stable")
    assert (np.diff(group[order]) >= 0).all() and 0 <= group.min() and group.max() < groups
    centres = {g: values[group == g].mean() for g in set(group.tolist())}
    for value, own in zip(values, group, strict=True):
        nearest = min(abs(value - centre) for centre in centres.values())
        assert abs(value - centres[own]) <= nearest + 1e-9


@pytest.mark.parametrize("groups, sizes", [(2, (3, 5)), (3, (4, 4, 4)), (4, (2, 5, 3, 2))])
def test_groups_are_the_optimum_where_the_values_are_in_clusters(groups, sizes):
    rng = np.random.default_rng(groups)
    values = np.concatenate([rng.normal(10 * g, 1.0, size) for g, size in enumerate(sizes)])
    ordered, n = np.sort(values), len(values)

    def error(cuts):
        return squared_error(ordered, np.searchsorted(np.array(cuts), np.arange(n), side="right"))

    best = min(map(error, itertools.combinations(range(1, n), groups - 1)))
    found = squared_error(values, kmeans_groups(torch.tensor(values), groups).numpy())
    assert found == pytest.approx(best, rel=1e-12)


def least_squared_error(values, groups):
    """The optimum, by the plain recursion over all cuts."""
    ordered = np.sort(values.astype(np.float64))
    n = len(ordered)
    sums, squares = (np.concatenate([[0.0], np.cumsum(part)]) for part in (ordered, ordered**2))
    starts = np.arange(n)
    least = np.full(n + 1, np.inf)
    least[0] = 0.0
    for _ in range(groups):
        following = least.copy()
        for stop in range(1, n + 1):
            start = starts[:stop]
            total = sums[stop] - sums[start]
            error = squares[stop] - squares[start] - total**2 / (stop - start)
            following[stop] = min(following[stop], (least[start] + error).min())
        least = following
    return least[n]


LOSSES = {
    "uniform": lambda rng, n: rng.random(n),
    "bimodal": lambda rng, n: np.where(rng.random(n) < 0.7, rng.normal(0.05, 0.02, n), rng.normal(3.0, 0.6, n)),
    "lognormal": lambda rng, n: rng.lognormal(-2.0, 2.0, n),
    "softplus": lambda rng, n: np.log1p(np.exp(-rng.normal(4.0, 3.0, n))),
    "few values": lambda rng, n: rng.integers(0, 6, n) / 4.0,
    "one outlier": lambda rng, n: np.append(rng.random(n - 1), 1e6),
}


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("groups, n, seed", [(10, 1700, 1), (5, 300, 2)])
def test_groups_are_as_good_as_the_optimum(kind, groups, n, seed):
    """1,700 values are more than the thousand stretches that the search runs on."""
    values = LOSSES[kind](np.random.default_rng(seed), n).astype(np.float32)
    found = squared_error(values.astype(np.float64), kmeans_groups(torch.from_numpy(values), groups).numpy())
    assert found <= 1.001 * least_squared_error(values, groups) + 1e-12


def test_groups_of_a_million_losses_take_no_longer_than_three_tenths_of_a_second():
    values = torch.from_numpy(LOSSES["softplus"](np.random.default_rng(0), 1_000_000).astype(np.float32))
    seconds = []
    for _ in range(3):
        start = time.process_time()
        kmeans_groups(values, 10)
        seconds.append(time.process_time() - start)
    assert min(seconds) <= 0.3


def window_of(groups, width, cycle):
    """The first group of the window of cycle 1, 2, … and the first group after it."""
    size = max(1, round(groups * width))
    start = (cycle - 1) % (groups - size + 1)
    return (0, groups) if cycle == 1 else (start, start + size)


@pytest.mark.parametrize("groups, width", [(10, 0.5), (5, 0.6), (4, 1.0), (3, 0.1)])
@pytest.mark.parametrize("k", [5, 20, 39])
def test_seta_draws_from_a_window_that_slides_from_easy_to_hard(groups, width, k):
    """A window of more than k draws; one of fewer is kept whole, and the next harder groups fill it up."""
    method = SeTa(groups=groups, width=width)
    run = Recorded(method, uniform)
    last = torch.tensor([values[-1] for values in run.past])
    group = kmeans_groups(last, groups).tolist()
    members = [{i for i, g in enumerate(group) if g == number} for number in range(groups)]
    for cycle in range(1, 10):
        start, stop = window_of(groups, width, cycle)
        whole, pool = set(), set().union(*members[start:stop])
        for number in [*range(stop, groups), *range(start - 1, -1, -1)]:
            if len(whole | pool) >= k:
                break
            whole, pool = whole | pool, members[number]
        drawn = set()
        for seed in range(25):
            kept = set(run.select(method, k, cycle=cycle, seed=seed).indices.tolist())
            assert len(kept) == k and whole <= kept <= whole | pool
            drawn |= kept - whole
        assert len(drawn) >= min(len(pool), 3 * (k - len(whole)) // 2), "drawn, not the same again and again"


def test_a_window_of_seta_is_no_uniform_half_of_skewed_losses():
    """Kept shares by tenths of the loss, easy to hard: easy windows leave the hard out, hard ones keep them all."""
    n = 5000
    method = SeTa()
    loss = np.log1p(np.exp(-np.random.default_rng(0).normal(4.0, 3.0, n))).astype(np.float32)
    history = scored(method, loss)
    tenth = np.argsort(np.argsort(loss)) * 10 // n
    shares = {}
    for cycle in range(2, 8):
        kept = method.select(history, n // 2, cycle=cycle, epoch=cycle, seed=0).indices.numpy()
        shares[cycle] = np.bincount(tenth[kept], minlength=10) / (n / 10)
    hardest = [shares[cycle][9] for cycle in (7, 2, 3, 4, 5, 6)]  # cycle 7 begins again at the easiest
    assert hardest[0] < 0.4 and hardest[-1] == 1.0, "the last window holds the hardest tenth whole"
    assert hardest == sorted(hardest)


@pytest.mark.parametrize("options", [dict(groups=0), dict(width=0.0), dict(width=1.2)])
def test_seta_names_bad_settings(options):
    with pytest.raises(ValueError, match="groups must be >= 1 and width"):
        SeTa(**options)


# --- ucb -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [0.0, 1.0, 10.0])
@pytest.mark.parametrize("k", [1, 15, 39])
def test_ucb_is_the_moving_mean_and_a_bonus_for_rarity(c, k):
    method = UCB(c=c)
    run = Recorded(method, uniform, epochs=9, share=0.4)
    bounds = []
    for values in run.past:
        mean = values[0]
        for value in values[1:]:
            mean = 0.2 * mean + 0.8 * value
        bounds.append(mean + c * math.sqrt(math.log(run.epochs) / len(values)))
    assert run.select(method, k).indices.tolist() == top(bounds, k)


@pytest.mark.parametrize("c, alpha", [(0.0, 0.8), (1.0, 0.8), (10.0, 0.3)])
@pytest.mark.parametrize("k", [1, 15, 39])
def test_ucbs_public_form_is_the_moving_mean_and_the_moving_variance(c, alpha, k):
    method = UCB(bonus="variance", c=c, alpha=alpha)
    run = Recorded(method, uniform, epochs=9, share=0.4)
    bounds = []
    for values in run.past:
        mean = variance = 0.0
        for value in values:
            variance = (1 - alpha) * variance + alpha * (value - mean) ** 2
            mean = (1 - alpha) * mean + alpha * value
        bounds.append(mean + c * variance)
    np.testing.assert_allclose(run.history.value("loss").numpy(), bounds, rtol=1e-5)
    assert run.select(method, k).indices.tolist() == top(bounds, k)
    assert sum(s.bytes_per_example for s in method.statistics.values()) == 8


def test_the_forms_of_ucb_keep_other_examples():
    steady, moving = [1.0] * 6, [0.2, 1.6] * 3  # the moving mean of the second is lower at the end of a low value
    method = UCB(bonus="variance", c=2.0)
    history = History(2, method.statistics)
    for epoch, losses in enumerate(zip(steady[:5], moving[:5], strict=True)):
        history.update(torch.arange(2), {"loss": torch.tensor(losses)}, epoch)
    assert method.select(history, 1, cycle=1, epoch=5, seed=0).indices.tolist() == [1]
    plain = UCB(bonus="variance", c=0.0)
    history_of_means = History(2, plain.statistics)
    for epoch, losses in enumerate(zip(steady[:5], moving[:5], strict=True)):
        history_of_means.update(torch.arange(2), {"loss": torch.tensor(losses)}, epoch)
    assert plain.select(history_of_means, 1, cycle=1, epoch=5, seed=0).indices.tolist() == [0]


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(c=-1.0), "c must be"),
        (dict(c=float("inf")), "c must be"),
        (dict(c=float("nan")), "c must be"),
        (dict(bonus="std"), "bonus must be 'visits' or 'variance', got 'std'"),
        (dict(alpha=0.0), "alpha weighs the newest loss"),
        (dict(alpha=1.5), "alpha weighs the newest loss"),
    ],
)
def test_ucb_names_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        UCB(**options)


# --- ccs -------------------------------------------------------------------------------------------


def stratum_budgets(values, k, strata=50):
    """Algorithm 1: how many each stratum of equal width gives, by stratum."""
    edges = np.linspace(values.min(), values.max(), strata + 1)
    members = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, strata - 1)
    sizes = sorted((int((members == s).sum()), s) for s in set(members.tolist()))
    budgets = {}
    for done, (size, s) in enumerate(sizes):
        budgets[s] = min(size, (k - sum(budgets.values())) // (len(sizes) - done))
    return members, budgets


@pytest.mark.parametrize("offset", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("k", [20, 100, 200])
def test_ccs_covers_the_range_of_what_the_offset_leaves(offset, k):
    method = CCS(offset=offset)
    loss = np.random.default_rng(1).gamma(2.0, size=300).astype(np.float32)
    kept = method.select(scored(method, loss), k, cycle=1, epoch=1, seed=0).indices.numpy()
    rest = np.sort(np.argsort(-loss, kind="stable")[int(offset * 300 + 1e-9) :])
    members, budgets = stratum_budgets(loss[rest].astype(np.float64), k)
    assert set(kept) <= set(rest)
    inside = members[np.isin(rest, kept)]
    assert {s: int((inside == s).sum()) for s in budgets} == budgets


# --- rs2 and random --------------------------------------------------------------------------------


@pytest.mark.parametrize("n, k", [(30, 10), (32, 10), (7, 7), (9, 5), (100, 1)])
def test_rs2_reads_every_shuffle_piece_by_piece(n, k):
    method, history = get_method("rs2"), History(n, {})
    pieces = n // k
    shuffles = []
    for shuffle in range(3):
        cycles = range(shuffle * pieces + 1, (shuffle + 1) * pieces + 1)
        kept = [method.select(history, k, cycle=c, epoch=c, seed=3).indices.tolist() for c in cycles]
        together = [i for indices in kept for i in indices]
        assert len(together) == len(set(together)) == pieces * k, "each example at most once a shuffle"
        assert n % k or set(together) == set(range(n)), "and all of them where k divides n"
        shuffles.append(kept)
    assert k == n or shuffles[0] != shuffles[1] != shuffles[2]


def test_random_draws_anew_every_cycle_and_every_example_equally_often():
    method, history = get_method("random"), History(50, {})
    counts = np.zeros(50)
    kept = []
    for cycle in range(1, SEEDS + 1):
        kept.append(method.select(history, 20, cycle=cycle, epoch=cycle, seed=1).indices.tolist())
        counts[kept[-1]] += 1
    assert len({tuple(indices) for indices in kept}) == SEEDS
    assert np.abs(counts - SEEDS * 0.4).max() < 5 * (SEEDS * 0.4 * 0.6) ** 0.5
