"""What ``auto`` draws on made-up data of four kinds, and what it says about it."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor

from fastprune.methods.auto import Auto, evenness
from fastprune.pruning import DynamicPruner, History

N = 4000


def known_by(scores: Tensor, seen: int | None = None) -> History:
    """A history in which the first ``seen`` examples have these scores."""
    history = History(len(scores), Auto().statistics)
    index = torch.arange(len(scores) if seen is None else seen)
    history.update(index, {"el2n": scores[index]}, epoch=0)
    return history


def drawn(history: History, k: int, power: float = 1.0, cycle: int = 1) -> Tensor:
    """Which examples are kept, as booleans."""
    kept = torch.zeros(history.n, dtype=torch.bool)
    kept[Auto(power=power).select(history, k, cycle=cycle, epoch=1, seed=0).indices] = True
    return kept


def scores(*parts: tuple[float, float]) -> Tensor:
    """``N`` scores in random order: of each part its share and about its score."""
    found = torch.cat([torch.full((round(share * N),), value) for share, value in parts])
    generator = torch.Generator().manual_seed(1)
    noise = 0.9 + 0.2 * torch.rand(len(found), generator=generator)
    return (found * noise)[torch.randperm(len(found), generator=generator)]


def test_redundant_examples_are_left_out():
    given = scores((0.9, 0.03), (0.1, 0.9))
    history = known_by(given)
    hard = given > 0.5
    kept = drawn(history, N // 10)
    assert hard[kept].float().mean() > 0.6, "they are a tenth of the data"
    assert (~hard)[kept].any(), "and easy ones still come"
    assert Auto().facts(history)["evenness"] < 0.3


def test_scores_that_are_alike_give_a_random_draw():
    given = scores((1.0, 0.7))
    history = known_by(given)
    kept = drawn(history, N // 2)
    spread = float(given.std()) / (N / 2) ** 0.5
    assert abs(float(given[kept].mean() - given.mean())) < 6 * spread
    assert Auto().facts(history)["evenness"] > 0.99


def test_wrong_labels_are_not_sure_to_stay():
    given = scores((0.9, 0.4), (0.1, 1.35))
    wrong = given > 1.0
    kept = drawn(known_by(given), N // 10)
    assert 0.1 < float(wrong[kept].float().mean()) < 0.4, "a cut would keep nothing else"


def test_a_long_tail_stays_while_it_is_not_learned():
    given = scores((0.98, 0.05), (0.02, 1.0))
    rare = given > 0.5
    kept = drawn(known_by(given), N // 2)
    assert float(kept[rare].float().mean()) > 0.99
    learned = torch.where(rare, 0.05, given)
    assert float(drawn(known_by(learned), N // 2)[rare].float().mean()) < 0.7


def test_what_was_never_trained_on_comes_first():
    history = known_by(scores((1.0, 1.0)), seen=N // 2)
    assert not drawn(history, N // 2)[: N // 2].any()
    assert drawn(history, N // 2 + 10)[N // 2 :].all()
    assert Auto().facts(history)["seen"] == 0.5


def test_a_larger_power_prefers_hard_examples_more():
    given = scores((0.5, 0.2), (0.5, 0.6))
    shares = [float((given > 0.4)[drawn(known_by(given), N // 4, power)].float().mean()) for power in (0.0, 1.0, 2.0)]
    assert 0.45 < shares[0] < 0.55 < shares[1] < shares[2] < 1.0


@pytest.mark.parametrize("power", [-1.0, float("nan"), float("inf")])
def test_a_power_out_of_range_is_refused(power):
    with pytest.raises(ValueError, match="power is that of the score in the draw's chances and must be >= 0, got"):
        Auto(power=power)


def test_evenness_needs_no_finite_power_of_a_score():
    facts = Auto(power=1e6).facts(known_by(scores((0.5, 0.2), (0.5, 40.0))))
    assert 0.0 < facts["evenness"] < 1e-2
    assert evenness(torch.zeros(3, dtype=torch.float64)) == 1.0


def test_facts_are_logged_and_saved(caplog):
    pruner = DynamicPruner(8, keep_fraction=0.5, method="auto")
    with caplog.at_level(logging.INFO, logger="fastprune"):
        for _ in pruner.epochs(2):
            index = torch.tensor(list(pruner.sampler))
            pruner.observe(index, torch.full((len(index),), 0.5))
    (said,) = (record.getMessage() for record in caplog.records)
    assert said == "method 'auto' keeps 4 of 8 examples from epoch 2 on: seen 0.5, evenness 1"
    assert pruner.log()["prune/seen"] == 0.5 and pruner.log()["prune/evenness"] == 1.0
    again = DynamicPruner(8, keep_fraction=0.5, method="auto")
    again.load_state_dict(pruner.state_dict())
    assert again.log() == pruner.log()


def test_nothing_is_known_of_examples_that_were_never_trained_on():
    assert Auto().facts(History(4, Auto().statistics)) == {"seen": 0.0, "evenness": 1.0}
