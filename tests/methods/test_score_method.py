"""Ranking by one number: the offset, the unscored, re-entry, and who is asked for a scoring pass when."""

import numpy as np
import pytest
import torch
from helpers.recorded import Recorded, scored, top, uniform

from fastprune.files.score_files import read_columns, write_columns
from fastprune.methods import ScoreMethod
from fastprune.methods.aum import aum
from fastprune.methods.ccs import CCS
from fastprune.methods.el2n import el2n
from fastprune.methods.grand import grand
from fastprune.methods.static import Static, static
from fastprune.pruning import (
    EMA,
    Budget,
    DynamicPruner,
    History,
    Latest,
    LinearRamp,
    Mean,
    Moments,
    get_method,
)
from fastprune.scores import Task
from fastprune.scores.metrics import of_examples

RANKED = ("el2n", "el2n-free", "el2n-static", "loss", "grand")


def naive_window(values, k, offset):
    """A plain reference: sort by hardness, leave out the hardest floor(offset · n), and take the next k."""
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    dropped = min(int(offset * len(values) + 1e-9), len(values) - k)
    return sorted(order[dropped : dropped + k])


@pytest.mark.parametrize("name", RANKED)
@pytest.mark.parametrize("k", [1, 13, 39])
def test_the_k_largest_latest_scores_are_kept(name, k):
    method = get_method(name)
    run = Recorded(method, uniform)
    assert run.select(method, k).indices.tolist() == top([values[-1] for values in run.past], k)
    assert run.select(method, k).weights is None


@pytest.mark.parametrize(
    "name, metric", [("el2n", "el2n"), ("loss", "loss"), ("grand", "grand"), ("el2n-free", "el2n")]
)
def test_each_reads_its_metric(name, metric):
    assert get_method(name).reads == (metric,)


@pytest.mark.parametrize("offset", [0.0, 0.1, 0.29, 0.5, 0.9])
@pytest.mark.parametrize("k", [1, 30, 71, 99])
def test_the_offset_drops_the_hardest_as_far_as_k_remain(offset, k):
    values = np.random.default_rng(3).integers(0, 20, 100)  # with many ties
    method = ScoreMethod("m", offset=offset)
    kept = method.select(scored(method, values), k, cycle=1, epoch=1, seed=0).indices
    assert kept.tolist() == naive_window(values, k, offset)


@pytest.mark.parametrize("values", [[1.0] * 9, [2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0], [-0.0, 0.0] * 4 + [0.0]])
def test_equal_scores_go_by_index(values):
    method = ScoreMethod("m")
    kept = method.select(scored(method, values), 4, cycle=1, epoch=1, seed=0).indices
    assert kept.tolist() == top(values, 4)


def test_equal_counts_are_drawn_and_not_taken_in_order_of_index():
    """Data sorted by ten classes, a metric of two values: every class keeps about its share."""
    right = (np.random.default_rng(0).random(1000) < 0.9).astype(np.float32)
    method = ScoreMethod("m", metric="correct", source="step")
    history = scored(method, right)
    kept = [method.select(history, 300, cycle=c, epoch=1, seed=s).indices for c, s in ((1, 0), (1, 0), (2, 0), (1, 1))]
    by_class = np.bincount(kept[0].numpy() // 100, minlength=10)
    assert by_class.min() >= 15 and by_class.max() <= 45
    assert torch.equal(kept[0], kept[1])
    assert not torch.equal(kept[0], kept[2]) and not torch.equal(kept[0], kept[3])
    versions = {"el2n": 1, "aum": 1, "cartography": 1, "dyn-unc": 1}
    assert method.rule_version == 3 and {name: get_method(name).rule_version for name in versions} == versions


@pytest.mark.parametrize("equal, noted", [(10, False), (11, True)])
def test_a_cut_in_a_large_tie_is_warned_of(equal, noted, caplog):
    values = np.arange(1000.0)
    values[495 : 495 + equal] = 495.0
    method = ScoreMethod("m")
    method.select(scored(method, values), 500, cycle=1, epoch=1, seed=0)
    found = f"method 'm': the cut falls into a tie: {equal} of 1000 examples have the same score"
    assert (found in caplog.text) == noted and bool(caplog.text) == noted


# From the hardest to the easiest: the logit of the label is first below the others, then above.
LEADS = (-0.5, 0.5, 1.0, 2.0, 3.0)
SMOOTHINGS = (Latest(), EMA(deviation=1.0), EMA(alpha=0.5, deviation=0.0), Mean(2), Moments("mean"))


def by_difficulty(metrics):
    """The metrics of examples from the hardest to the easiest."""
    logits = torch.zeros(len(LEADS), 3)
    logits[:, 0] = torch.tensor(LEADS)
    batch, states = {"labels": torch.zeros(len(LEADS), dtype=torch.int64)}, {"": (torch.ones(len(LEADS), 2), True)}
    return Task().scores({"logits": logits}, batch, metrics, states)


@pytest.mark.parametrize("metric", of_examples())
def test_the_hardest_example_comes_first_in_a_file_of_every_metric(metric, tmp_path, capsys):
    from fastprune.app.cli import main

    path, kept = tmp_path / "scores.csv", tmp_path / "kept.csv"
    index = np.array([3, 1, 4, 0, 2])
    write_columns(path, {"index": index, metric: by_difficulty([metric])[metric].numpy()})
    method = static(str(path), column=metric)
    assert method.select(History(len(LEADS), {}), 1, cycle=1, epoch=1, seed=0).indices.tolist() == [3]
    assert main(["select", str(path), "--column", metric, "--keep-fraction", "0.2", "--out", str(kept)]) == 0
    assert read_columns(kept)["index"].astype(int).tolist() == [3], capsys.readouterr().out


@pytest.mark.parametrize("smoothing", SMOOTHINGS, ids=repr)
@pytest.mark.parametrize("metric", of_examples())
def test_the_hardest_example_comes_first_by_every_metric(metric, smoothing):
    places = torch.randperm(len(LEADS), generator=torch.Generator().manual_seed(1))
    scores = by_difficulty([metric])
    method = ScoreMethod("m", metric=metric, smoothing=smoothing)
    history = History(len(LEADS), method.statistics)
    for epoch in range(3):
        history.update(places, scores, epoch)
    (first,) = method.select(history, 1, cycle=1, epoch=1, seed=0).indices.tolist()
    assert first == places[0]
    ranked = history.value(metric)[places]
    assert (ranked.diff() <= 0).all() and ranked[0] > ranked[-1]


def test_a_checkpoint_of_the_other_direction_is_refused():
    """Earlier versions kept the mean margin as it is and negated what was read of it."""
    history = History(3, aum().statistics)
    older = {**history.state_dict(), "statistics": {"margin": "Moments(of='mean')"}}
    with pytest.raises(ValueError, match="saved history has statistics"):
        history.load_state_dict(older)
    same = History(3, el2n().statistics)
    same.load_state_dict({**same.state_dict(), "statistics": {"el2n": "Latest()"}})


def test_an_infinite_score_is_the_hardest():
    method = get_method("loss")
    kept = method.select(scored(method, [1.0, 2.0, float("inf"), 3.0]), 2, cycle=1, epoch=1, seed=0).indices
    assert kept.tolist() == [2, 3]


def test_unscored_examples_come_before_the_hardest():
    method = ScoreMethod("m", offset=0.5)
    history = scored(method, np.arange(20.0), unscored=(0, 4, 7))
    kept = method.select(history, 5, cycle=1, epoch=1, seed=0).indices.tolist()
    # 17 are scored: 8 of them are above the offset, the next two follow.
    assert kept == [0, 4, 7, 10, 11]


def test_of_more_unscored_than_k_a_fresh_draw_is_kept():
    method = ScoreMethod("m")
    history = scored(method, np.arange(200.0), unscored=range(100))
    kept = [
        tuple(method.select(history, 50, cycle=c, epoch=1, seed=s).indices.tolist()) for c, s in [(1, 0), (2, 0)] * 2
    ]
    assert kept[0] == kept[2] != kept[1] == kept[3]
    assert all(max(k) < 100 for k in kept), "no scored example"
    assert len(set(kept[0]) & set(kept[1])) < 40, "two draws of a half share about a half"


@pytest.mark.parametrize("reentry, drawn", [(0.0, 0), (0.29, 29), (0.5, 50), (0.999, 99)])
def test_the_reentering_share_is_drawn_from_the_others(reentry, drawn):
    values = np.random.default_rng(0).permutation(400)
    method = ScoreMethod("m", source="step", reentry=reentry)
    kept = set(method.select(scored(method, values), 100, cycle=1, epoch=1, seed=0).indices.tolist())
    ranked = set(top(values, 100 - drawn))
    assert ranked <= kept and len(kept) == 100


def test_every_pruned_example_reenters_equally_often():
    method = ScoreMethod("m", source="step", reentry=0.25)
    history = scored(method, np.arange(40.0))
    seeds = 2000
    counts = np.zeros(40)
    for seed in range(seeds):
        counts[method.select(history, 20, cycle=1, epoch=1, seed=seed).indices] += 1
    assert (counts[25:] == seeds).all()
    # 5 of the other 25 are drawn: binomial with p = 1/5.
    assert np.abs(counts[:25] - seeds / 5).max() < 5 * (seeds * 0.2 * 0.8) ** 0.5


def test_where_everything_is_kept_nobody_is_left_to_reenter():
    method = ScoreMethod("m", source="step", reentry=0.5)
    assert method.select(scored(method, np.arange(6.0)), 6, cycle=1, epoch=1, seed=0).indices.tolist() == list(range(6))


@pytest.mark.parametrize(
    "every, passes",
    [(0, []), (1, [2, 3, 4, 5, 6, 7]), (2, [3, 5, 7]), (3, [4, 7])],
)
def test_rescoring_comes_before_every_so_many_th_cycle(every, passes):
    method = ScoreMethod("m", source="step", rescore_every=every)
    history = scored(method, np.arange(5.0))
    assert [c for c in range(1, 8) if method.scoring_pass(history, c)] == passes
    assert {method.scoring_pass(history, c) for c in passes} <= {"pruned"}


def test_a_static_method_asks_once_and_a_dynamic_one_before_every_cycle():
    static, dynamic = ScoreMethod("s", source="once"), ScoreMethod("d", source="pass")
    empty = History(5, static.statistics)
    assert [m.scoring_pass(empty, 1) for m in (static, dynamic)] == ["all", "all"]
    full = scored(static, np.arange(5.0))
    assert [m.scoring_pass(full, 2) for m in (static, dynamic)] == [None, "all"]


def test_only_the_pruned_are_scored_again():
    method = ScoreMethod("m", source="step", rescore_every=2)
    pruner = DynamicPruner(20, keep_fraction=0.5, method=method)
    asked = {}
    for epoch in pruner.epochs(6):
        index = torch.tensor(list(pruner.sampler))
        pruner.observe(index, index.float() + epoch)
        if pruner.wants_scores:
            kept = set(pruner.kept_indices.tolist())

            def score_fn(index, epoch=epoch, kept=kept):
                asked[epoch] = (index.tolist(), sorted(set(range(20)) - kept))
                return index.float()

            pruner.rescore(score_fn)
    assert sorted(asked) == [2, 4], "before cycles 3 and 5"
    assert all(scored == pruned for scored, pruned in asked.values())


def test_a_cycle_that_keeps_everything_needs_no_pass():
    pruner = DynamicPruner(10, keep_fraction=lambda progress: 1.0 if progress < 0.6 else 0.5, method="el2n")
    wanted = []
    for epoch in pruner.epochs(4):
        list(pruner.sampler)
        if pruner.wants_scores:
            wanted.append(epoch)
            pruner.rescore(lambda index: index.float())
    assert wanted == [2], "the cycles of epochs 1 and 2 keep all, that of epoch 3 a half"


def test_smoothed_scores_rank_by_their_statistic():
    method = ScoreMethod("m", smoothing=EMA(alpha=0.5, deviation=0.0))
    run = Recorded(method, uniform)
    means = []
    for values in run.past:
        mean = values[0]
        for value in values[1:]:
            mean = (mean + value) / 2
        means.append(mean)
    assert run.select(method, 11).indices.tolist() == top(means, 11)


OFFSETS = {
    "el2n": lambda offset: el2n(offset=offset),
    "grand": lambda offset: grand(offset=offset),
    "aum": lambda offset: aum(offset=offset),
    "ccs": lambda offset: CCS(offset=offset),
    "static": lambda offset: Static(torch.arange(100.0), offset),
}


@pytest.mark.parametrize("name", OFFSETS)
def test_an_offset_that_leaves_too_few_is_refused_before_the_run(name):
    message = rf"method '{name}' drops the hardest 60 of 100 examples \(offset=0.6\), which leaves 40, but 41 are"
    with pytest.raises(ValueError, match=message):
        DynamicPruner(100, keep_fraction=0.41, method=OFFSETS[name](0.6))
    DynamicPruner(100, keep_fraction=0.4, method=OFFSETS[name](0.6)).driver.phases(5)
    for fits in (1.0, LinearRamp(1.0, 0.3)):  # what keeps everything drops nobody, and the next keeps 0.65
        DynamicPruner(100, keep_fraction=fits, method=OFFSETS[name](0.35)).driver.phases(4)
    for late in (LinearRamp(0.3, 0.5), lambda progress: 0.3 + progress / 5, Budget(0.6)):
        pruner = DynamicPruner(100, keep_fraction=late, method=OFFSETS[name](0.6))
        with pytest.raises(ValueError, match="lower offset or keep_fraction"):
            pruner.driver.phases(5)


@pytest.mark.parametrize("method", ["aum", "ccs"])
def test_an_offset_that_nobody_asked_for_yields(method):
    pruner = DynamicPruner(20, keep_fraction=0.95, method=method)
    for _ in pruner.epochs(3):
        index = torch.tensor(list(pruner.sampler))
        pruner.observe(index, index.float())
    assert len(pruner.kept_indices) == 19


def test_reentering_examples_leave_room_for_an_offset():
    method = ScoreMethod("m", source="step", offset=0.5, reentry=0.5)
    DynamicPruner(100, keep_fraction=0.7, method=method)  # 35 ranked, 30 at most drawn from the others
    with pytest.raises(ValueError, match="lower offset"):
        DynamicPruner(100, keep_fraction=0.85, method=method)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(offset=1.0), "offset"),
        (dict(offset=-0.1), "offset"),
        (dict(source="pass", rescore_every=2), "rescore_every"),
        (dict(source="step", rescore_every=-1), "rescore_every"),
        (dict(reentry=1.0), "reentry"),
        (dict(reentry=float("nan")), "reentry"),
    ],
)
def test_bad_settings_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ScoreMethod("m", **options)
