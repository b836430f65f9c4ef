"""The methods that weigh losses: InfoBatch and RePB."""

import math

import numpy as np
import pytest
import torch
from helpers.recorded import Recorded, scored

from fastprune.methods.infobatch import InfoBatch
from fastprune.methods.repb import RePB
from fastprune.pruning import History
from fastprune.selection import threshold_random

SEEDS = 400


def skewed(rng, index):
    return rng.gamma(1.0, size=len(index))


def losses_with(easy, hard, seed=0):
    """``easy`` losses below the mean and ``hard`` losses above it, shuffled."""
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.uniform(0.0, 0.5, easy), rng.uniform(3.5, 4.0, hard)]).astype(np.float32)
    assert (values < values.mean()).sum() == easy
    return rng.permutation(values)


# --- infobatch -------------------------------------------------------------------------------------


@pytest.mark.parametrize("drop", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("cycle, seed", [(1, 0), (7, 3)])
def test_infobatch_is_the_published_selection_at_the_k_that_a_published_r_gives(drop, cycle, seed):
    loss = losses_with(easy=40, hard=24)
    published = threshold_random(loss, drop=drop, seed=seed, round=cycle)
    found = InfoBatch().select(scored(InfoBatch(), loss), len(published), cycle=cycle, epoch=5, seed=seed)
    assert torch.equal(found.indices, published.indices)
    assert torch.equal(found.weights, published.weights)


@pytest.mark.parametrize("easy", [5, 7, 41])
@pytest.mark.parametrize("drop", [0.3, 0.5, 0.7])
def test_infobatch_weighs_by_what_it_dropped_where_r_leaves_no_whole_number(easy, drop):
    loss = losses_with(easy=easy, hard=30)
    published = threshold_random(loss, drop=drop, seed=0, round=1)
    stay = math.floor(round((1 - drop) * easy, 6))
    method = InfoBatch(max_drop=0.9)
    found = method.select(scored(method, loss), len(published), cycle=1, epoch=5, seed=0)
    assert torch.equal(found.indices, published.indices)
    below = loss[found.indices] < loss.mean()
    assert found.weights.tolist() == pytest.approx(np.where(below, easy / stay, 1.0).tolist(), rel=1e-6)


def test_infobatch_compares_with_the_last_losses():
    run = Recorded(InfoBatch(), skewed, n=64)
    last = np.array([values[-1] for values in run.past])
    kept = run.select(InfoBatch(), 50)
    hard = set(np.flatnonzero(last >= last.mean()))
    assert hard <= set(kept.indices.tolist())
    assert all((w == 1.0) == (i in hard) for i, w in zip(kept.indices.tolist(), kept.weights.tolist(), strict=True))


@pytest.mark.parametrize("max_drop", [0.3, 0.5, 0.7, 0.75])
@pytest.mark.parametrize("k", [20, 40, 60, 79])
def test_infobatch_moves_the_line_up_until_max_drop_holds(max_drop, k):
    loss = losses_with(easy=30, hard=70, seed=1)[:80]
    dropped = len(loss) - k
    easy = int((loss < loss.mean()).sum())
    # As many of the smallest as let no more than max_drop of them go, at least those below the mean.
    candidates = max(easy, min(len(loss), math.ceil(dropped / max_drop - 1e-9)))
    smallest = set(np.argsort(loss, kind="stable")[:candidates].tolist())
    method = InfoBatch(max_drop=max_drop)
    kept = method.select(scored(method, loss), k, cycle=1, epoch=1, seed=0)
    weight = candidates / (candidates - dropped)
    expected = [weight if i in smallest else 1.0 for i in kept.indices.tolist()]
    assert set(range(len(loss))) - smallest <= set(kept.indices.tolist())
    assert kept.weights.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("k", [30, 50, 60])
def test_infobatch_leaves_the_expected_sum_of_losses_unchanged(k):
    loss = losses_with(easy=40, hard=24, seed=2)
    history = scored(InfoBatch(), loss)
    sums = []
    for seed in range(SEEDS):
        kept = InfoBatch().select(history, k, cycle=1, epoch=1, seed=seed)
        sums.append(float((kept.weights.numpy() * loss[kept.indices]).sum()))
    candidates = max(40, math.ceil((64 - k) / 0.75))
    part = np.sort(loss)[:candidates]
    # A sample without replacement of the candidates, scaled up.
    stay = candidates - (64 - k)
    deviation = candidates * math.sqrt((1 - stay / candidates) / stay * part.var(ddof=1))
    assert np.mean(sums) == pytest.approx(loss.sum(), abs=5 * deviation / SEEDS**0.5)
    assert np.std(sums) == pytest.approx(deviation, rel=0.2)


def test_infobatch_takes_equal_losses_for_none_below_the_mean():
    # The line moves up to as many as max_drop asks for, of equal ones the first.
    loss = np.full(30, 0.1, dtype=np.float32)
    kept = InfoBatch(max_drop=0.5).select(scored(InfoBatch(), loss), 25, cycle=1, epoch=1, seed=0)
    assert kept.indices.tolist()[-20:] == list(range(10, 30))
    assert kept.weights.tolist() == [2.0] * 5 + [1.0] * 20


@pytest.mark.parametrize("max_drop", [0.0, 1.0, float("nan")])
def test_infobatch_names_a_bad_max_drop(max_drop):
    with pytest.raises(ValueError, match="max_drop"):
        InfoBatch(max_drop=max_drop)


# --- repb ------------------------------------------------------------------------------------------


class RePBRule:
    """The rule over the full record: last loss against its batch's mean, and who was trained on when."""

    def __init__(self, run):
        self.difference, seen = np.zeros(run.n), np.zeros(run.n)
        for epoch, index, values in run.steps:
            self.difference[index] = values - values.astype(np.float64).mean()
            seen[index] = epoch
        self.resting = seen < run.epochs - 1
        self.candidates = self.resting | (self.difference < 0)
        self.weights = run.epochs / run.visits


@pytest.mark.parametrize("k", [30, 35, 39])
def test_repb_drops_only_the_easy_and_the_resting_and_weighs_by_rarity(k):
    run = Recorded(RePB(), skewed)
    rule = RePBRule(run)
    assert rule.candidates.sum() >= 40 - k and (~rule.candidates).sum() > 3 and rule.resting.sum() > 3
    kept = run.select(RePB(), k)
    assert set(np.flatnonzero(~rule.candidates)) <= set(kept.indices.tolist())
    assert kept.weights.tolist() == pytest.approx(rule.weights[kept.indices].tolist(), rel=1e-6)


def test_repb_drops_every_candidate_equally_often():
    run = Recorded(RePB(), skewed)
    rule = RePBRule(run)
    counts = np.zeros(40)
    for seed in range(SEEDS):
        counts[run.select(RePB(), 28, seed=seed).indices] += 1
    stays = 1 - 12 / rule.candidates.sum()
    assert (counts[~rule.candidates] == SEEDS).all()
    assert np.abs(counts[rule.candidates] - SEEDS * stays).max() < 5 * (SEEDS * stays * (1 - stays)) ** 0.5


def test_repb_goes_on_with_the_lowest_of_the_others_where_candidates_are_too_few():
    run = Recorded(RePB(), skewed)
    rule = RePBRule(run)
    others = np.flatnonzero(~rule.candidates)
    k = len(others) - 3
    hardest = others[np.argsort(-rule.difference[others], kind="stable")[:k]]
    assert run.select(RePB(), k).indices.tolist() == sorted(hardest.tolist())


def test_repb_never_compares_losses_of_two_batches():
    history = History(6, RePB().statistics)
    history.update(torch.tensor([0, 1, 2]), {"loss": torch.tensor([9.0, 9.5, 10.0])}, 0)
    history.update(torch.tensor([3, 4, 5]), {"loss": torch.tensor([0.1, 0.2, 0.6])}, 0)
    # Below their own mean are 0, 3 and 4.
    assert RePB().select(history, 3, cycle=1, epoch=1, seed=0).indices.tolist() == [1, 2, 5]


@pytest.mark.parametrize("value", [0.1, 0.7, 1e-3, 123.456])
@pytest.mark.parametrize("size", [3, 7, 33])
def test_repb_takes_equal_losses_for_none_below_the_mean(value, size):
    history = History(size, RePB().statistics)
    history.update(torch.arange(size), {"loss": torch.full((size,), value)}, 0)
    assert history.value("loss").tolist() == [0.0] * size
