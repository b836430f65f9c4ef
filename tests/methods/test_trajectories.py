"""Methods that read how an example's values moved, against plain NumPy over all of them."""

import numpy as np
import pytest
import torch
from helpers.recorded import EPSILON, Recorded, scored, top, uniform

from fastprune.methods.aum import aum
from fastprune.methods.cartography import cartography
from fastprune.methods.dyn_unc import WindowDeviation, dyn_unc
from fastprune.methods.forgetting import NEVER_LEARNED, Forgetting
from fastprune.methods.tdds import MOST_CLASSES, PredictionMoves, tdds
from fastprune.pruning import History


def assert_follows(run, method, expected, scale=1.0):
    """The history's values are the expected ones up to the rounding of as many fp32 additions as visits."""
    (metric,) = method.reads
    found = run.history.value(metric).double().numpy()
    assert np.abs(found - expected).max() <= 4 * run.visits.max() * EPSILON * scale
    for k in (1, 10, run.n - 1):
        offset = min(int(getattr(method, "offset", 0.0) * run.n + 1e-9), run.n - k)
        kept = sorted(sorted(range(run.n), key=lambda i: (-expected[i], i))[offset : offset + k])
        assert run.select(method, k).indices.tolist() == kept


# --- forgetting ------------------------------------------------------------------------------------


def coin(rng, index):
    return rng.random(len(index)) < 0.35


def forgetting_events(right):
    """How often right was followed by wrong; never right is the most of all."""
    right = [bool(r) for r in right]
    return sum(a and not b for a, b in zip(right, right[1:], strict=False)) if any(right) else NEVER_LEARNED


def test_forgetting_counts_right_to_wrong():
    run = Recorded(Forgetting(), coin, n=200, epochs=9)
    expected = [forgetting_events(values) for values in run.past]
    assert run.history.value("correct").tolist() == expected
    assert set(expected) >= {0, 1, 2, NEVER_LEARNED}


@pytest.mark.parametrize("k", [1, 20, 59])
def test_forgetting_keeps_the_most_forgotten_and_draws_among_equals(k):
    run = Recorded(Forgetting(), coin, n=60, epochs=9)
    events = np.array([forgetting_events(values) for values in run.past])
    cut = np.sort(events)[::-1][k - 1]
    drawn = set()
    for seed in range(20):
        kept = run.select(Forgetting(), k, seed=seed).indices.numpy()
        assert set(np.flatnonzero(events > cut)) <= set(kept) <= set(np.flatnonzero(events >= cut))
        drawn.add(tuple(kept))
    ties = int((events == cut).sum())
    assert len(drawn) > 1 or ties == k - int((events > cut).sum())


def test_the_never_learned_rank_above_the_most_forgotten():
    history = History(2, Forgetting().statistics)
    for step in range(101):
        history.update(torch.arange(2), {"correct": torch.tensor([float(step % 2 == 0), 0.0])}, step)
    assert history.value("correct").tolist() == [50.0, NEVER_LEARNED]
    assert Forgetting().select(history, 1, cycle=1, epoch=9, seed=0).indices.tolist() == [1]


# --- aum and cartography ---------------------------------------------------------------------------


def margins(rng, index):
    return rng.normal(size=len(index)) * 3 + index / 10


@pytest.mark.parametrize("offset", [0.0, 0.1, 0.3])
def test_aum_keeps_the_smallest_mean_margins_after_the_offset(offset):
    method = aum(offset=offset)
    run = Recorded(method, margins)
    means = np.array([np.mean(values) for values in run.past])
    assert_follows(run, method, -means, scale=np.abs(means).max() + 9)


@pytest.mark.parametrize(
    "region, rule", [("ambiguous", lambda v: np.std(v)), ("hard-to-learn", lambda v: 1.0 - np.mean(v))]
)
def test_cartography_is_numpys_deviation_or_mean(region, rule):
    method = cartography(region=region)
    run = Recorded(method, uniform, epochs=12)
    expected = np.array([rule(values) for values in run.past])
    if region == "hard-to-learn":
        expected -= 1.0  # ranks by the negated mean
    assert_follows(run, method, expected)


def test_cartography_sees_small_deviations_of_large_values():
    method = cartography()
    values = [1.0 - EPSILON * 8, 1.0, 1.0 - EPSILON * 8, 1.0]
    history = History(2, method.statistics)
    for epoch, value in enumerate(values):
        history.update(torch.arange(2), {"confidence": torch.tensor([value, 1.0])}, epoch)
    deviation = history.value("confidence").numpy()
    assert deviation[1] == 0.0
    assert deviation[0] == pytest.approx(np.std(np.float64(values)), rel=0.2)


def test_an_unknown_region_is_named():
    with pytest.raises(ValueError, match="'easy'"):
        cartography(region="easy")


# --- dyn-unc ---------------------------------------------------------------------------------------


def sliding_deviation(values, window):
    """Mean of torch.std over all windows; of all values there are, before the first full one."""
    values = torch.tensor(np.array(values), dtype=torch.float64)
    if len(values) < 2:
        return 0.0
    if len(values) < window:
        return values.std().item()
    return values.unfold(0, window, 1).std(dim=1).mean().item()


@pytest.mark.parametrize("window, epochs", [(2, 7), (3, 12), (10, 5), (10, 30)])
def test_dyn_unc_is_the_mean_of_torchs_deviation_over_sliding_windows(window, epochs):
    method = dyn_unc(window=window)
    run = Recorded(method, uniform, epochs=epochs)
    assert run.visits.min() < run.visits.max()
    assert_follows(run, method, np.array([sliding_deviation(values, window) for values in run.past]))


def test_dyn_unc_sees_small_deviations_of_large_values():
    method = dyn_unc(window=10)
    values = [1.0 - EPSILON * 8, 1.0, 1.0 - EPSILON * 8]  # before the first full window
    history = scored(method, [values[0]])
    for epoch, value in enumerate(values[1:], start=1):
        history.update(torch.tensor([0]), {"confidence": torch.tensor([value])}, epoch)
    assert history.value("confidence").item() == pytest.approx(sliding_deviation(np.float32(values), 10), rel=0.2)


@pytest.mark.parametrize("window", [1, 0, -2])
def test_dyn_unc_refuses_a_window_without_deviation(window):
    with pytest.raises(ValueError, match="window"):
        WindowDeviation(window)


# --- tdds ------------------------------------------------------------------------------------------


def softmaxes(classes):
    def draw(rng, index):
        z = np.exp(rng.normal(size=(len(index), classes)) * 2)
        return z / z.sum(1, keepdims=True)

    return draw


def temporal_dual_depth(past, window, decay):
    """The published score of one example, from all its probability vectors."""
    p = np.array(past)
    moves = np.abs(p[1:] * (np.log(p[1:] + 1e-8) - np.log(p[:-1] + 1e-8))).sum(1)
    if len(p) < window:
        return np.linalg.norm(moves - moves.mean()) if len(moves) else 0.0
    spreads = [
        np.linalg.norm(part - part.mean()) for part in (moves[k : k + window - 1] for k in range(len(p) - window + 1))
    ]
    last = len(spreads) - 1
    return sum(decay * (1 - decay) ** (last - k) * spread for k, spread in enumerate(spreads))


@pytest.mark.parametrize(
    "window, decay, epochs", [(3, 0.9, 9), (4, 0.3, 14), (10, 0.9, 6), (10, 0.9, 25), (5, 1.0, 12)]
)
@pytest.mark.parametrize("classes", [2, 7])
def test_tdds_is_the_published_sum_over_windows(window, decay, epochs, classes):
    method = tdds(window=window, decay=decay)
    run = Recorded(method, softmaxes(classes), epochs=epochs)
    expected = np.array([temporal_dual_depth(values, window, decay) for values in run.past])
    # A move is a sum of p·|Δ log p|; the logarithms are at most ln 1e8 = 18.4 in size.
    assert_follows(run, method, expected, scale=19.0)


def test_tdds_reads_no_move_from_the_first_visit():
    method = tdds()
    history = scored(method, np.full((3, 4), 0.25))
    assert history.value("probabilities").tolist() == [0.0, 0.0, 0.0]


def test_tdds_refuses_many_classes_and_changes_nothing():
    history = History(2, tdds().statistics)
    with pytest.raises(ValueError, match=f"C <= {MOST_CLASSES}.*dyn-unc"):
        history.update(torch.arange(2), {"probabilities": torch.rand(2, MOST_CLASSES + 1)}, 0)
    assert history.empty and history.visits.tolist() == [0, 0]
    history.update(torch.arange(2), {"probabilities": torch.rand(2, MOST_CLASSES)}, 0)
    assert history.visits.tolist() == [1, 1]


@pytest.mark.parametrize("options", [dict(window=2), dict(decay=0.0), dict(decay=1.5)])
def test_tdds_names_bad_settings(options):
    with pytest.raises(ValueError, match="window must be >= 3 and decay"):
        PredictionMoves(**options)


def test_equal_values_are_all_alike():
    for method, value in ((cartography(), 0.5), (dyn_unc(), 0.5), (tdds(), [0.2, 0.8])):
        history = scored(method, np.array([value] * 6), epochs=4)
        assert method.select(history, 3, cycle=1, epoch=4, seed=0).indices.tolist() == top([0.0] * 6, 3)
