"""What ``auto`` draws on made-up data of four kinds, and what it says about it."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from fastprune.methods.auto import Auto
from fastprune.pruning import Budget, DynamicPruner, History

N = 4000


def known_by(scores: Tensor, *, begins: float | None = None, seen: int | None = None) -> History:
    """A history in which the first ``seen`` examples have these scores.

    Args:
        begins: the mean score of the run's first steps.  None is that of the scores, so that nothing has fallen.
    """
    method = Auto()
    history = method.new_history(len(scores))
    index = torch.arange(len(scores) if seen is None else seen)
    first = torch.full_like(scores, float(scores.mean()) if begins is None else begins)
    for given in (first, scores):
        for part in index.split(50):
            history.update(part, {"el2n": given[part]}, epoch=0)
    return history


def drawn(history: History, k: int, cycle: int = 1, **settings: float) -> Tensor:
    """Which examples are kept, as booleans."""
    kept = torch.zeros(history.n, dtype=torch.bool)
    kept[Auto(**settings).select(history, k, cycle=cycle, epoch=1, seed=0).indices] = True
    return kept


def scores(*parts: tuple[float, float]) -> Tensor:
    """``N`` scores in random order: of each part its share and about its score."""
    found = torch.cat([torch.full((round(share * N),), value) for share, value in parts])
    generator = torch.Generator().manual_seed(1)
    noise = 0.9 + 0.2 * torch.rand(len(found), generator=generator)
    return (found * noise)[torch.randperm(len(found), generator=generator)]


def hardest(given: Tensor, share: float) -> Tensor:
    """Which examples are among that share."""
    return given >= given.sort(descending=True).values[round(share * len(given)) - 1]


def test_scores_below_0_are_refused_with_the_example():
    given = scores((0.5, 1.0))
    given[7] = -0.25
    with pytest.raises(ValueError, match="that of example 7 is -0.25"):
        drawn(known_by(given), 10)


def test_a_tie_at_the_border_of_the_pool_is_said(caplog):
    """A draw from a pool whose border lies among equals takes the first rows of the file."""
    given = torch.zeros(N)
    given[::20] = 1.0
    history = known_by(given, begins=0.9)
    with caplog.at_level(logging.WARNING, logger="fastprune"):
        drawn(history, N // 10)
    assert "method 'auto': the cut falls into a tie" in caplog.text


def test_redundant_examples_are_left_out():
    given = scores((0.9, 0.03), (0.1, 0.9))
    history = known_by(given, begins=0.7)
    hard = given > 0.5
    for k in (N // 10, N // 4, N // 2):
        kept = drawn(history, k)
        assert hardest(given, max(0.4, k / N))[kept].all(), "nothing comes from outside of the pool"
        assert hard[kept].float().mean() > 0.6 * min(1.0, N / 10 / k), "they are a tenth of the data"
    facts = Auto().facts(history)
    assert facts["pool"] == 0.4 and facts["fallen"] > 0.7 and facts["seen"] == 1.0


def test_scores_that_are_alike_give_a_random_draw():
    given = scores((1.0, 0.7))
    history = known_by(given)
    kept = drawn(history, N // 2)
    spread = float(given.std()) / (N / 2) ** 0.5
    assert abs(float(given[kept].mean() - given.mean())) < 6 * spread
    assert Auto().facts(history)["pool"] == 1.0 and Auto().facts(history)["fallen"] < 0.1


def test_wrong_labels_are_not_sure_to_stay():
    given = scores((0.8, 0.4), (0.2, 1.35))
    wrong = given > 1.0
    history = known_by(given, begins=0.9)
    assert Auto().facts(history)["pool"] == 1.0, "they keep the mean from falling by half"
    kept = drawn(history, N // 5)
    assert 0.2 < float(wrong[kept].float().mean()) < 0.5, "a cut would keep nothing else"


def test_few_wrong_labels_are_not_all_that_stays():
    given = scores((0.9, 0.2), (0.1, 1.35))
    wrong = given > 1.0
    history = known_by(given, begins=0.9)
    assert Auto().facts(history)["pool"] == 0.4
    assert 0.3 < float(wrong[drawn(history, N // 10)].float().mean()) < 0.75, "a cut would keep nothing else"


def test_a_long_tail_stays_while_it_is_not_learned():
    given = scores((0.98, 0.05), (0.02, 1.0))
    rare = given > 0.5
    kept = drawn(known_by(given, begins=0.9), N // 2)
    assert float(kept[rare].float().mean()) == 1.0
    learned = torch.where(rare, 0.03, given)
    assert not drawn(known_by(learned, begins=0.9), N // 2)[rare].any(), "they are the easiest now"


def test_what_was_never_trained_on_comes_first():
    history = known_by(scores((1.0, 1.0)), seen=N // 2)
    assert not drawn(history, N // 2)[: N // 2].any()
    assert drawn(history, N // 2 + 10)[N // 2 :].all()
    assert Auto().facts(history)["seen"] == 0.5


def test_half_of_the_data_is_a_plain_cut_once_the_model_has_learned():
    given = scores((0.5, 0.1), (0.5, 0.4))
    history = known_by(given, begins=0.9)
    assert torch.equal(drawn(history, N // 2), hardest(given, 0.5))
    assert not torch.equal(drawn(known_by(given), N // 2), hardest(given, 0.5))


def test_each_cycle_draws_anew_from_the_pool():
    history = known_by(scores((0.5, 0.1), (0.5, 0.4)), begins=0.9)
    first, second = (drawn(history, N // 8, cycle=cycle) for cycle in (1, 2))
    assert 0.1 < float((first & second).sum() / (N // 8)) < 0.6


@pytest.mark.parametrize("name", ["learned_at", "pool"])
@pytest.mark.parametrize("value", [0.0, 1.5, float("nan"), -0.1])
def test_a_share_out_of_range_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is a share and must be in"):
        Auto(**{name: value})


@pytest.mark.parametrize(
    ("keep", "epochs", "warmup"),
    [(Budget(0.5), 5, 1), (Budget(0.3), 5, 1), (Budget(0.3), 4, 0), (Budget(0.3), 3, 0), (0.3, 3, 1), (0.5, 1, 1)],
)
def test_a_warmup_is_left_out_where_a_budget_has_no_room_for_it(keep, epochs, warmup):
    phases = DynamicPruner(100, keep_fraction=keep, method="auto").schedule.phases(100, epochs)
    assert sum(phase.epochs for phase in phases if phase.index == 0) == warmup
    if isinstance(keep, Budget):
        assert sum(phase.length for phase in phases) <= round(keep.share * epochs * 100)


def test_a_warmup_that_was_asked_for_is_kept():
    with pytest.raises(ValueError, match="is spent by the 1 epochs on all examples"):
        DynamicPruner(100, keep_fraction=Budget(0.3), method="auto", warmup_epochs=1).schedule.phases(100, 3)


def test_a_warmup_of_its_own_and_the_same_said_are_one_schedule():
    said, own = (DynamicPruner(8, keep_fraction=0.5, method="auto", **more) for more in ({"warmup_epochs": 1}, {}))
    said.load_state_dict(own.state_dict())
    assert said.schedule == own.schedule


def trained(pruner: DynamicPruner, epochs: int, stop: tuple[int, int] | None = None) -> list[list[int]]:
    """The kept set of each epoch, whose scores fall.  It stops after some batches of an epoch."""
    kept = []
    for epoch in pruner.epochs(epochs):
        for number, index in enumerate(torch.tensor(list(pruner.sampler)).split(25)):
            if (epoch, number) == stop:
                return kept
            begins = int(pruner.history.visits.sum()) < 100
            scores = (0.5 + 0.5 * (index % 10) / 10) * (1.0 if begins else 0.3)
            pruner.observe(index, scores.float())
        kept.append(pruner.kept_indices.tolist())
    return kept


@pytest.mark.parametrize("stop", [(0, 5), (0, 15), (1, 2), (3, 1)])
def test_a_resumed_run_knows_what_was_learned(stop):
    def fresh() -> DynamicPruner:
        return DynamicPruner(400, keep_fraction=0.2, method="auto", seed=4)

    whole, first, rest = fresh(), fresh(), fresh()
    kept = trained(whole, 5)
    assert whole.log()["prune/pool"] == 0.4, "the guard opens"
    trained(first, 5, stop)
    rest.load_state_dict(first.state_dict())
    assert trained(rest, 5) == kept[stop[0] :]
    assert rest.log()["prune/fallen"] == whole.log()["prune/fallen"] > 0.5


def test_facts_are_logged_and_saved(caplog):
    pruner = DynamicPruner(8, keep_fraction=0.5, method="auto")
    with caplog.at_level(logging.INFO, logger="fastprune"):
        for _ in pruner.epochs(2):
            index = torch.tensor(list(pruner.sampler))
            pruner.observe(index, torch.full((len(index),), 0.5))
    (said,) = (record.getMessage() for record in caplog.records)
    assert said == "method 'auto' keeps 4 of 8 examples from epoch 2 on: seen 1, fallen 0, pool 1"
    assert pruner.log()["prune/seen"] == 1.0 and pruner.log()["prune/pool"] == 1.0
    again = DynamicPruner(8, keep_fraction=0.5, method="auto")
    again.load_state_dict(pruner.state_dict())
    assert again.log() == pruner.log()


def test_nothing_is_known_of_examples_that_were_never_trained_on():
    method = Auto()
    history = method.new_history(4)
    assert method.facts(history) == {"seen": 0.0, "fallen": 0.0, "pool": 1.0}
