"""A budget of tokens: the kept texts are as long as all texts, whatever the method prefers."""

from __future__ import annotations

import pytest
import torch
from helpers import toy
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import BatchSampler

from fastprune.app.finetune.encode import group_by_length
from fastprune.methods import Static
from fastprune.pruning import Budget, DynamicPruner, get_method, method_names
from fastprune.pruning.by_length import ENOUGH, WIDTHS, choose_in_groups, length_groups
from fastprune.selection import hardest

EPOCHS = 6
BATCH = 16


def texts(n: int, seed: int = 0) -> Tensor:
    """Lengths with a long tail, as those of texts."""
    generator = torch.Generator().manual_seed(seed)
    return (4 + torch.empty(n).log_normal_(2.2, 0.6, generator=generator)).long()


def padded_tokens(lengths: Tensor, keep, method: str = "el2n-free", *, grouped: bool) -> list[int]:
    """The padded tokens of each epoch of a run whose scores are higher the longer the text is."""
    arrange = group_by_length(lengths, BATCH) if grouped else None
    pruner = DynamicPruner(len(lengths), keep_fraction=keep, method=method, arrange=arrange, lengths=lengths)
    batches = BatchSampler(pruner.sampler, BATCH, drop_last=False)
    scores = lengths + torch.rand(len(lengths), generator=torch.Generator().manual_seed(1))
    found = []
    for _ in pruner.epochs(EPOCHS):
        found.append(0)
        for batch in batches:
            index = torch.tensor(batch)
            found[-1] += len(batch) * int(lengths[index].max())
            pruner.observe(index, scores[index])
    return found


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_the_padded_tokens_are_the_share_of_the_budget(share, grouped):
    lengths = texts(4000)
    full = sum(padded_tokens(lengths, 1.0, grouped=grouped))
    of_tokens = sum(padded_tokens(lengths, Budget(share, of="tokens"), grouped=grouped))
    of_examples = sum(padded_tokens(lengths, Budget(share), grouped=grouped))
    assert of_tokens / full == pytest.approx(share, rel=0.02)
    assert of_examples / full > 1.05 * share, "without it the method reads long texts"


def test_every_cycle_meets_its_part():
    """In batches of like lengths. At random the padding of one epoch differs from that of the next by more."""
    lengths = texts(4000)
    full = padded_tokens(lengths, 1.0, grouped=True)
    found = padded_tokens(lengths, Budget(0.5, of="tokens"), grouped=True)
    for cycle in range(1, EPOCHS):
        assert found[cycle] / full[cycle] == pytest.approx((0.5 * EPOCHS - 1) / (EPOCHS - 1), rel=0.02)


def test_steps_are_those_of_a_budget_of_examples():
    n, lengths = 1000, texts(1000)
    one = DynamicPruner(n, keep_fraction=Budget(0.5, of="tokens"), lengths=lengths)
    other = DynamicPruner(n, keep_fraction=Budget(0.5))
    assert one.total_examples(EPOCHS) == other.total_examples(EPOCHS)
    assert one.total_batches(EPOCHS, BATCH) == other.total_batches(EPOCHS, BATCH)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=400))
def test_groups_hold_every_example_once_and_do_not_overlap(lengths):
    groups = length_groups(lengths, len(lengths))
    assert sorted(i for group in groups for i in group.tolist()) == list(range(len(lengths)))
    of_group = [[lengths[i] for i in group] for group in groups]
    for short, long in zip(of_group, of_group[1:], strict=False):
        assert max(short) <= min(long)
    for group in groups:
        assert group.tolist() == sorted(group.tolist())
    if len(lengths) >= ENOUGH * len(set(lengths)):
        assert all(max(one) <= WIDTHS[0] * max(min(one), 1) for one in of_group)
        assert sum(len(set(one)) for one in of_group) == len(set(lengths)), "texts of one length are together"
    assert len(lengths) >= ENOUGH * len(groups) or len(groups) == 1


@given(st.lists(st.integers(0, 40), min_size=1, max_size=400), st.floats(0.0, 1.0))
def test_each_group_gives_its_share(lengths, share):
    n, groups = len(lengths), length_groups(lengths, len(lengths))
    k, scores = round(share * n), torch.rand(n, generator=torch.Generator().manual_seed(n))
    if not k:
        return
    kept = choose_in_groups(groups, k, lambda group, count: hardest(scores[group], count), seed=n, cycle=k)
    kept = kept.indices
    assert len(kept) == k and sorted(set(map(int, kept))) == list(map(int, kept))
    for group in groups:
        mine = [int(i) for i in kept if bool((group == i).any())]
        assert abs(len(mine) - k * len(group) / n) <= 1.0
        rest = [i for i in group.tolist() if i not in mine]
        if mine and rest:
            assert scores[mine].min() >= scores[rest].max(), "the method chooses within a group"


WEIGHTED = {name for name in method_names() if name != "static" and get_method(name).weighted}


@pytest.mark.parametrize("warmup", [0, 1])
@pytest.mark.parametrize("name", sorted(set(method_names()) - WEIGHTED))
def test_every_method_keeps_a_budget_of_tokens_and_resumes(name, warmup, tmp_path):
    options = dict(
        keep_fraction=Budget(0.6, of="tokens"),
        lengths=[3 + i % 7 for i in range(toy.N)],
        method=toy.method_text(name, tmp_path),
        warmup_epochs=warmup,
        cycle_epochs=1,
        seed=3,
    )
    whole = toy.Loop(**options).run(5)
    assert sum(map(len, whole.seen.values())) == whole.pruner.total_examples(5)
    for epoch, seen in whole.seen.items():
        assert sorted(seen) == whole.kept[epoch]
    first = toy.Loop(**options).run(5, (3, 2))
    torch.save(first.state(), tmp_path / "state.pt")
    second = toy.Loop(**options)
    second.load(torch.load(tmp_path / "state.pt", weights_only=True))
    second.run(5)
    assert torch.equal(second.net.weights(), whole.net.weights())


def run_of(method, n: int, share: float, epochs: int, seed: int = 0) -> list[list[int]]:
    """The kept sets of a run without warm-up over texts with a long tail, by a score that does not change."""
    lengths = texts(n, seed)
    keep = Budget(share, of="tokens")
    pruner = DynamicPruner(n, keep_fraction=keep, method=method, warmup_epochs=0, lengths=lengths)
    scores, found = torch.rand(n, generator=torch.Generator().manual_seed(seed)), []
    for _ in pruner.epochs(epochs):
        index = pruner.kept_indices
        found.append(index.tolist())
        pruner.observe(index, scores[index])
    return found


@pytest.mark.parametrize("n", [20, 300, 2000])
def test_auto_sees_everything_first(n):
    kept = run_of("auto", n, 0.25, 4)
    assert len({i for one in kept for i in one}) >= 0.9 * n


def test_rs2_takes_every_example_once_as_without_lengths():
    kept = run_of("rs2", 2000, 0.25, 4)
    assert len({i for one in kept for i in one}) == 2000, "it does not look at the texts, so it needs no groups"


def test_a_subset_that_never_changes_stays():
    kept = run_of(Static(torch.rand(300, generator=torch.Generator().manual_seed(5))), 300, 0.5, 4)
    assert all(one == kept[0] for one in kept)


@pytest.mark.parametrize("name", sorted(WEIGHTED))
def test_weights_are_refused(name):
    with pytest.raises(ValueError, match=f"the weights of '{name}' are right only if it chooses among all"):
        DynamicPruner(10, keep_fraction=Budget(0.5, of="tokens"), method=name, lengths=[1] * 10)


def test_a_run_that_keeps_everything_needs_no_lengths():
    assert DynamicPruner(10, keep_fraction=Budget(0.5, of="tokens"), method="full").driver.groups is None


def test_small_groups_do_not_warn_of_ties(caplog):
    lengths = texts(2000)
    pruner = DynamicPruner(2000, keep_fraction=Budget(0.5, of="tokens"), method="loss", lengths=lengths)
    for _ in pruner.epochs(3):
        pruner.observe(pruner.kept_indices, torch.ones(len(pruner.kept_indices)))
        if pruner.wants_scores:
            pruner.rescore(lambda index: torch.ones(len(index)))
    assert "tie" not in caplog.text


def test_a_state_of_other_lengths_is_refused():
    keep = Budget(0.5, of="tokens")
    state = DynamicPruner(100, keep_fraction=keep, lengths=[5] * 50 + [9] * 50).state_dict()
    with pytest.raises(ValueError, match="the checkpoint has groups"):
        DynamicPruner(100, keep_fraction=keep, lengths=[5] * 40 + [9] * 60).load_state_dict(state)


def test_a_run_without_warm_up_begins_with_all_lengths():
    lengths = texts(2000)
    pruner = DynamicPruner(
        2000, keep_fraction=Budget(0.2, of="tokens"), method="el2n-free", warmup_epochs=0, lengths=lengths
    )
    next(pruner.epochs(5))
    kept = lengths[pruner.kept_indices].double()
    assert float(kept.mean()) == pytest.approx(float(lengths.double().mean()), rel=0.01)


def test_lengths_that_are_missing_or_wrong_are_named():
    keep = Budget(0.5, of="tokens")
    with pytest.raises(ValueError, match="a budget of tokens needs the length of each example: pass lengths"):
        DynamicPruner(10, keep_fraction=keep)
    for wrong in ([1] * 9, [1.0] * 10, [-1] * 10):
        with pytest.raises(ValueError, match="lengths must be 10 whole numbers >= 0"):
            DynamicPruner(10, keep_fraction=keep, lengths=wrong)
    with pytest.raises(ValueError, match="of is what the budget counts, 'examples' or 'tokens', got 'words'"):
        Budget(0.5, of="words")


def test_a_state_of_the_other_budget_is_refused():
    state = DynamicPruner(10, keep_fraction=Budget(0.5)).state_dict()
    pruner = DynamicPruner(10, keep_fraction=Budget(0.5, of="tokens"), lengths=[1] * 10)
    with pytest.raises(ValueError, match="schedule"):
        pruner.load_state_dict(state)
