"""What the history remembers, refuses and restores."""

import pytest
import torch

from fastprune.pruning import EMA, History, Latest, Mean, Moments
from fastprune.pruning.history import ROWS_AT_ONCE

EL2N = {"el2n": Latest()}


def test_the_unscored_rank_first():
    history = History(3, EL2N)
    history.update(torch.tensor([1]), {"el2n": torch.tensor([9.0])}, epoch=4)
    assert history.value("el2n").tolist() == [float("inf"), 9.0, float("inf")]
    assert history.scored_epoch.tolist() == [-1, 4, -1]
    assert history.visits.tolist() == [0, 1, 0]


def test_the_callers_tensors_are_not_touched_or_kept():
    history = History(2, EL2N)
    scores, index = torch.tensor([1.0, 2.0]), torch.tensor([0, 1])
    history.update(index, {"el2n": scores}, epoch=0)
    history.value("el2n").fill_(7.0)
    scores.fill_(-1.0)
    assert history.value("el2n").tolist() == [1.0, 2.0]


def test_scores_that_require_grad_are_detached():
    history = History(2, EL2N)
    scores = torch.ones(2, requires_grad=True)
    history.update(torch.arange(2), {"el2n": scores}, epoch=0)
    assert not history.value("el2n").requires_grad


@pytest.mark.parametrize(
    "index, scores, error, message",
    [
        ([0, 3], {"el2n": torch.ones(2)}, IndexError, r"\[0, 3\)"),
        ([-1, 0], {"el2n": torch.ones(2)}, IndexError, r"\[0, 3\)"),
        ([0, 1], {"el2n": torch.ones(2, 4)}, ValueError, "one score per example"),
        ([0, 1], {"loss": torch.ones(2)}, KeyError, "el2n"),
    ],
)
def test_bad_updates_are_named_and_change_nothing(index, scores, error, message):
    history = History(3, EL2N)
    with pytest.raises(error, match=message):
        history.update(torch.tensor(index), scores, epoch=0)
    assert history.visits.tolist() == [0, 0, 0]


def test_state_round_trip_goes_on_identically(tmp_path):
    generator = torch.Generator().manual_seed(0)
    one, other = History(50, {"el2n": EMA(deviation=1.0)}), History(50, {"el2n": EMA(deviation=1.0)})
    one.update(torch.arange(50), {"el2n": torch.rand(50, generator=generator)}, epoch=0)
    torch.save(one.state_dict(), tmp_path / "h.pt")
    other.load_state_dict(torch.load(tmp_path / "h.pt", weights_only=True))
    scores = torch.rand(50, generator=generator)
    for history in (one, other):
        history.update(torch.arange(50), {"el2n": scores}, epoch=1)
    assert torch.equal(one.value("el2n"), other.value("el2n"))


@pytest.mark.parametrize(
    "other", [History(4, EL2N), History(3, {"loss": Latest()}), History(3, {"el2n": EMA(deviation=1.0)})]
)
def test_a_state_of_something_else_is_refused(other):
    with pytest.raises(ValueError, match="saved history"):
        other.load_state_dict(History(3, EL2N).state_dict())


def test_memory_is_what_the_statistics_say():
    history = History(1000, {"el2n": EMA(deviation=1.0)})
    state = history.state_dict()
    tensors = [state["visits"], state["scored_epoch"], *state["state"]["el2n"].values()]
    assert sum(t.nbytes for t in tensors) == 1000 * history.bytes_per_example
    assert history.bytes_per_example <= 64


@pytest.mark.parametrize("statistic", [EMA(deviation=1.0), Moments(), Mean(3)])
def test_values_of_many_examples_are_those_of_their_rows(statistic):
    n = 2 * ROWS_AT_ONCE + 3
    history = History(n, {"el2n": statistic})
    generator = torch.Generator().manual_seed(0)
    for epoch in range(3):
        index = torch.randperm(n, generator=generator)[: n - 1000]
        history.update(index, {"el2n": torch.rand(len(index), generator=generator)}, epoch)
    whole = statistic.value(history.state("el2n"), history.visits)
    expected = torch.where(history.visits > 0, whole, torch.inf)
    torch.testing.assert_close(history.value("el2n"), expected, rtol=1e-6, atol=1e-7)


def test_a_value_follows_every_update_and_every_loaded_state():
    history = History(2, EL2N)
    history.update(torch.tensor([0, 1]), {"el2n": torch.tensor([1.0, 2.0])}, epoch=0)
    state = history.state_dict()
    assert history.value("el2n").tolist() == [1.0, 2.0]
    history.update(torch.tensor([1]), {"el2n": torch.tensor([5.0])}, epoch=1)
    assert history.value("el2n").tolist() == [1.0, 5.0]
    history.load_state_dict(state)
    assert history.value("el2n").tolist() == [1.0, 2.0]
