"""The pruner and its sampler in a plain loop: coverage, budget, determinism, resume, and no-op at 1.0."""

import copy

import pytest
import torch
from helpers import toy
from torch.utils.data import BatchSampler, DataLoader

import fastprune
from fastprune.methods import ScoreMethod
from fastprune.pruning import EMA, DynamicPruner, Mean, method_names
from fastprune.pruning.chunks import chunk_pieces
from fastprune.pruning.schedule import epoch_pieces


@pytest.fixture(params=method_names())
def method(request, tmp_path):
    """Every registered method."""
    return toy.method_text(request.param, tmp_path)


def test_every_method_trains_three_cycles_and_resumes_exactly(method, tmp_path):
    options = dict(keep_fraction=0.4, warmup_epochs=1, cycle_epochs=2, method=method, seed=5)
    whole = toy.Loop(**options).run(7)
    expected = toy.N if method == "full" else round(0.4 * toy.N)
    final = 7 - int(7 * (1 - whole.pruner.method.final_share))
    assert [len(whole.seen[e]) for e in range(7)] == [toy.N] + (6 - final) * [expected] + final * [toy.N]
    assert sum(map(len, whole.seen.values())) == whole.pruner.total_examples(7)
    for epoch, seen in whole.seen.items():
        assert sorted(seen) == whole.kept[epoch], "an epoch reads its kept set, each example once"
    assert len({tuple(whole.kept[e]) for e in (1, 2)}) == 1, "one kept set a cycle"

    # Inside the warm-up and at its end, at an epoch's end inside a cycle, inside an epoch, and at a cycle's end.
    for stop in ((0, 3), (0, 6), (1, 3), (3, 2), (4, 3)):
        first = toy.Loop(**options).run(7, stop)
        torch.save(first.state(), tmp_path / "state.pt")
        second = toy.Loop(**options)
        torch.manual_seed(999)  # a new process has another global state
        second.load(torch.load(tmp_path / "state.pt", weights_only=True))
        second.run(7)
        rest = {e: first.seen.get(e, []) + second.seen.get(e, []) for e in range(7)}
        assert rest == whole.seen
        assert torch.equal(second.net.weights(), whole.net.weights())


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 8, 10, 53, 54])
def test_total_batches_are_those_a_loop_draws(batch_size, drop_last):
    """Epochs of 53, 53, 21, 21, 21 and 53 examples."""
    pruner = DynamicPruner(toy.N, keep_fraction=0.4, warmup_epochs=2, method="random", final_share=0.2)
    batches = BatchSampler(pruner.sampler, batch_size, drop_last)
    drawn = sum(1 for _ in pruner.epochs(6) for _ in batches)
    assert pruner.total_batches(6, batch_size, drop_last=drop_last) == drawn
    assert drawn or (drop_last and batch_size == 54)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, True, None])
def test_a_batch_size_that_is_none_is_named(batch_size):
    with pytest.raises(ValueError, match=f"batch_size must be a whole number >= 1, got {batch_size}"):
        DynamicPruner(toy.N, keep_fraction=0.4).total_batches(3, batch_size)


def test_keeping_everything_changes_nothing(method):
    pruned = toy.Loop(keep_fraction=1.0, cycle_epochs=1, method=method, seed=2)
    pruned.run(4)
    after_pruned = torch.get_rng_state()

    plain = toy.Loop(keep_fraction=1.0, method="full", seed=2)
    plain.pruner.observe = lambda *a: None
    orders = [torch.randperm(toy.N, generator=torch.Generator().manual_seed(2 + e)).tolist() for e in range(4)]
    for order in orders:
        for x, y, _ in DataLoader(plain.data, sampler=order, batch_size=10, generator=torch.Generator()):
            fastprune.cross_entropy(plain.model(x), y, reduction="none").mean().backward()
            plain.optimizer.step()
            plain.optimizer.zero_grad()
    assert [pruned.seen[e] for e in range(4)] == orders
    assert torch.equal(pruned.net.weights(), plain.net.weights())
    assert torch.equal(after_pruned, torch.get_rng_state()), "the same use of the global random state"


@pytest.mark.parametrize("method", ["el2n", "loss", "el2n-static", "el2n-free"])
def test_keeping_everything_makes_no_pass_unless_the_scores_are_recorded(method):
    """A pass that nothing reads costs time, and what cannot be scored would fail after the warm-up."""
    runs, passes = {}, {False: 0, True: 0}
    for record in passes:
        loop = runs[record] = toy.Loop(keep_fraction=1.0, method=method, record_scores=record)
        original = loop.pruner.rescore

        def counted(score_fn, record=record, original=original):
            passes[record] += 1
            original(score_fn)

        loop.pruner.rescore = counted
        loop.run(4)
        assert not loop.pruner.driver.expects_pass
    needed = {"el2n": 3, "loss": 3, "el2n-static": 1, "el2n-free": 0}[method]
    assert passes == {False: 0, True: needed}
    assert torch.equal(runs[False].net.weights(), runs[True].net.weights()) and runs[False].seen == runs[True].seen
    assert not runs[True].pruner.history.empty
    assert runs[False].pruner.history.empty == (method != "el2n-free")


def test_dynamic_selection_is_the_top_k_of_the_current_scores():
    loop = toy.Loop(keep_fraction=0.3, cycle_epochs=1, method="el2n")
    taken = {}
    original = loop.pruner.rescore

    def rescore(score_fn):
        def spy(index):
            taken[loop.pruner.sampler.piece_number + 1] = score_fn(index)
            return taken[loop.pruner.sampler.piece_number + 1]

        original(spy)

    loop.pruner.rescore = rescore
    loop.run(4)
    assert sorted(taken) == [1, 2, 3]
    for epoch, scores in taken.items():
        expected = torch.argsort(scores, descending=True, stable=True)[: round(0.3 * toy.N)].sort().values
        assert loop.kept[epoch] == expected.tolist()
    assert loop.kept[1] != loop.kept[3]


def test_static_selection_never_changes():
    loop = toy.Loop(keep_fraction=0.3, cycle_epochs=1, method="el2n-static").run(4)
    assert loop.kept[1] == loop.kept[2] == loop.kept[3] != loop.kept[0]


def test_random_selection_is_fresh_every_cycle_and_repeatable():
    one, other = (toy.Loop(keep_fraction=0.3, cycle_epochs=1, method="random", seed=4) for _ in range(2))
    one.run(4)
    other.run(4)
    assert one.seen == other.seen
    assert len({tuple(one.kept[e]) for e in (1, 2, 3)}) == 3


def test_free_scores_are_those_of_the_training_step():
    loop = toy.Loop(keep_fraction=0.5, method="el2n-free")
    recorded = {}
    original = loop.pruner.observe

    def observe(index, scores):
        recorded.update(zip(index.tolist(), scores["el2n"].tolist(), strict=True))
        original(index, scores)

    loop.pruner.observe = observe
    loop.run(1)
    assert loop.pruner.history.value("el2n").tolist() == [pytest.approx(recorded[i], abs=0) for i in range(toy.N)]


def test_the_offset_drops_the_hardest_first():
    method = ScoreMethod("el2n-offset", source="pass", offset=0.1)
    loop = toy.Loop(keep_fraction=0.3, method=method)
    loop.pruner.driver.plan(chunk_pieces(loop.pruner.driver.phases(2)))
    scores = torch.rand(toy.N, generator=torch.Generator().manual_seed(0))
    loop.pruner.rescore(lambda index: scores[index])
    loop.pruner.driver.enter(len(loop.pruner.sampler.pieces) - 1)
    ranked = torch.argsort(scores, descending=True)
    drop, k = int(0.1 * toy.N), round(0.3 * toy.N)
    assert set(loop.pruner.kept_indices.tolist()) == set(ranked[drop : drop + k].tolist())


@pytest.mark.parametrize("smoothing", [EMA(deviation=1.0), Mean(2)])
def test_smoothed_methods_resume_exactly(smoothing):
    options = dict(keep_fraction=0.4, method=ScoreMethod("smooth", smoothing=smoothing), seed=1)
    whole = toy.Loop(**options).run(5)
    state = toy.Loop(**options).run(5, (2, 2)).state()
    second = toy.Loop(**options)
    second.load(state)
    second.run(5)
    assert torch.equal(second.net.weights(), whole.net.weights())


def test_without_warmup_the_first_subset_is_random_then_scored():
    loop = toy.Loop(keep_fraction=0.3, warmup_epochs=0, cycle_epochs=1, method="el2n", seed=8)
    loop.run(3)
    other = toy.Loop(keep_fraction=0.3, warmup_epochs=0, cycle_epochs=1, method="el2n", seed=9)
    other.run(1)
    assert len(loop.kept[0]) == len(loop.kept[1]) == round(0.3 * toy.N)
    assert loop.kept[0] != other.kept[0], "drawn from the seed"


def test_a_forgotten_scoring_pass_is_an_error_not_a_silent_full_run():
    loop = toy.Loop(keep_fraction=0.5, method="el2n")
    epochs = loop.pruner.epochs(2)
    next(epochs)
    list(loop.pruner.sampler)
    with pytest.raises(RuntimeError, match="rescore"):
        next(epochs)


def test_forgotten_observations_are_an_error():
    pruner = DynamicPruner(10, keep_fraction=0.5, method="el2n-free")
    epochs = pruner.epochs(2)
    next(epochs)
    with pytest.raises(RuntimeError, match="observe"):
        next(epochs)


def test_iterating_without_a_plan_says_what_to_do():
    with pytest.raises(RuntimeError, match="pruner.epochs"):
        list(DynamicPruner(10, keep_fraction=0.5).sampler)


@pytest.mark.parametrize("keep", [0.5, 0.3, 0.21, 1.0])
def test_chunks_cover_warmup_and_every_kept_set(keep):
    pruner = DynamicPruner(toy.N, keep_fraction=keep, warmup_epochs=2, cycle_epochs=3, method="random")
    phases = pruner.driver.phases(9)
    pruner.driver.plan(chunk_pieces(phases))
    lengths, read = set(), {p.index: [] for p in phases}
    for number, piece in enumerate(pruner.sampler.pieces):
        pruner.driver.enter(number)
        lengths.add(len(pruner.sampler))
        read[piece.phase.index] += list(pruner.sampler)
        kept = set(pruner.kept_indices.tolist())
    assert len(lengths) == 1
    total = sum(map(len, read.values()))
    assert pruner.total_examples(9) <= total <= 1.02 * pruner.total_examples(9)
    for phase in phases:
        epochs = [read[phase.index][e * phase.size : (e + 1) * phase.size] for e in range(phase.epochs)]
        assert all(len(set(epoch)) == phase.size for epoch in epochs), "each epoch reads each example once"
        assert len({frozenset(epoch) for epoch in epochs}) == 1
    assert set(read[phases[-1].index]) == kept


def test_a_frameworks_count_of_epochs_moves_nothing_and_ranks_agree():
    one, other = (DynamicPruner(toy.N, keep_fraction=0.5, method="random", seed=3) for _ in range(2))
    for pruner in (one, other):
        pruner.driver.plan(chunk_pieces(pruner.driver.phases(4)))
        pruner.driver.enter(0)
    one.sampler.set_epoch(2)
    one.sampler.shard(0, 2).set_epoch(2)
    assert list(one.sampler) == list(one.sampler) == list(other.sampler)


@pytest.mark.parametrize("ranks, multiple", [(1, 1), (2, 2), (4, 4), (1, 30), (1, 200)])
def test_a_resumed_epoch_is_filled_up_with_its_first_examples(ranks, multiple):
    pruner = DynamicPruner(toy.N, keep_fraction=0.5)
    next(pruner.epochs(1))
    order = list(pruner.sampler)
    filled = (4 * order)[: -(-toy.N // multiple) * multiple]
    shares = [pruner.sampler.shard(r, ranks) if ranks > 1 else pruner.sampler.filled(multiple) for r in range(ranks)]
    assert [list(share) for share in shares] == [filled[r::ranks] for r in range(ranks)]
    assert all(len(share) == len(list(share)) for share in shares)
    begin = 40 // multiple * multiple
    pruner.progress.begin_at(begin)
    assert [list(share) for share in shares] == [filled[begin:][r::ranks] for r in range(ranks)]
    pruner.progress.begin_at(toy.N)
    assert [list(share) for share in shares] == [[]] * ranks


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(fingerprint="b"), "another data set"),
        (dict(method="random"), "method"),
        (dict(method=ScoreMethod("mine", offset=0.2)), "method"),
        (dict(method=ScoreMethod("mine", smoothing=EMA(deviation=1.0))), "method"),
        (dict(seed=1), "seed"),
        (dict(keep_fraction=0.25), "schedule"),
        (dict(final_share=0.25), "schedule"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused_whole(change, message):
    options = dict(keep_fraction=0.5, method=ScoreMethod("mine"), fingerprint="a")
    source = toy.Loop(**options)
    source.run(3)
    other = DynamicPruner(toy.N, **{**options, **change})
    before = str(other.state_dict())
    with pytest.raises(ValueError, match=message):
        other.load_state_dict(source.pruner.state_dict())
    assert str(other.state_dict()) == before


@pytest.mark.parametrize("n", [0, -1, 2.0, True])
def test_a_bad_size_is_named(n):
    with pytest.raises(ValueError, match="number of training examples"):
        DynamicPruner(n, keep_fraction=0.5)


def test_an_unknown_method_lists_those_that_exist():
    with pytest.raises(ValueError, match="el2n-free"):
        DynamicPruner(10, keep_fraction=0.5, method="magic")


def test_a_failed_scoring_pass_leaves_the_pass_due():
    pruner = DynamicPruner(10, keep_fraction=0.3, method="el2n-static")
    epochs = pruner.epochs(2)
    next(epochs)
    list(pruner.sampler)
    with pytest.raises(ValueError, match="one score per example"):
        pruner.rescore(lambda index: torch.rand(10, 4))
    assert pruner.wants_scores
    pruner.rescore(lambda index: torch.arange(10.0))
    next(epochs)
    assert pruner.kept_indices.tolist() == [7, 8, 9]


def test_without_warmup_the_unscored_come_first_in_random_order():
    pruner = DynamicPruner(100, keep_fraction=0.2, warmup_epochs=0, method=ScoreMethod("m", source="step", offset=0.3))
    seen = []
    for _ in pruner.epochs(5):
        kept = list(pruner.sampler)
        pruner.observe(torch.tensor(kept), torch.rand(len(kept)))
        seen.append(set(kept))
    assert set.union(*seen) == set(range(100)), "five epochs of a fifth read everything once"
    assert all(max(s) - min(s) > 50 for s in seen), "and not in index order"


def test_a_score_is_stamped_with_the_epoch_it_was_seen_in():
    pruner = DynamicPruner(10, keep_fraction=0.5, warmup_epochs=2, method="el2n-free")
    loader = DataLoader(range(10), sampler=pruner.sampler, batch_size=5)
    for epoch in pruner.epochs(2):
        for index in loader:
            pruner.observe(index, torch.rand(5))
        assert pruner.history.scored_epoch.tolist() == [epoch] * 10


def test_a_loop_that_ignores_the_weights_is_stopped():
    pruner = DynamicPruner(40, keep_fraction=0.5, method="infobatch", final_share=0.0)
    with pytest.raises(RuntimeError, match="pruner.weights"):
        for _ in pruner.epochs(3):
            for index in DataLoader(range(40), sampler=pruner.sampler, batch_size=4):
                pruner.observe(index, torch.rand(len(index)))


def test_fewer_epochs_than_the_state_has_seen_is_named():
    loop, other = toy.Loop(keep_fraction=0.5), DynamicPruner(toy.N, keep_fraction=0.5)
    loop.run(5)
    other.load_state_dict(loop.pruner.state_dict())
    with pytest.raises(ValueError, match="epochs is 2"):
        next(other.epochs(2))


def test_log_uses_the_projects_keys():
    loop = toy.Loop(keep_fraction=0.5, method="el2n")
    loop.run(3)
    log = loop.pruner.log()
    assert set(log) == {
        f"prune/{key}"
        for key in ("keep_fraction", "threshold", "churn", "score_seconds", "select_seconds", "examples_seen")
    }
    assert log["prune/examples_seen"] == loop.pruner.total_examples(3)
    assert log["prune/keep_fraction"] == pytest.approx(0.5, abs=0.01)
    assert 0 < log["prune/threshold"] < 2**0.5


def test_options_that_do_not_exist_or_are_missing_are_named():
    with pytest.raises(TypeError, match="unexpected keyword argument 'warmup'"):
        DynamicPruner(10, keep_fraction=0.5, warmup=3)
    with pytest.raises(TypeError, match="keep_fraction"):
        DynamicPruner(10)


@pytest.mark.parametrize(
    "method, options, asked",
    [
        ("el2n", {}, 1),
        ("el2n-static", {}, 1),
        ("el2n-free", {}, 1),
        ("el2n", {"keep_fraction": 1.0}, 0),
        ("el2n", {"keep_fraction": 1.0, "record_scores": True}, 1),
        ("el2n-free", {"keep_fraction": 1.0}, 0),
        ("el2n-free", {"keep_fraction": 1.0, "record_scores": True}, 1),
        ("random", {"keep_fraction": 1.0, "record_scores": True}, 0),
        ("el2n", {"warmup_epochs": 4}, 0),
        ("random", {}, 0),
    ],
)
def test_a_trial_asks_for_scores_where_the_run_reads_some_and_keeps_none(method, options, asked):
    pruner = DynamicPruner(toy.N, method=method, **{"keep_fraction": 0.5, **options})
    pruner.driver.plan(epoch_pieces(pruner.driver.phases(4)))
    before, calls = copy.deepcopy(pruner.state_dict()), []

    def score(index):
        calls.append(index.tolist())
        return index[:3], torch.ones(3)

    pruner.driver.try_scores(score)
    assert calls == [list(range(toy.N))] * asked
    after = pruner.state_dict()
    assert all(torch.equal(after["history"][k], before["history"][k]) for k in ("visits", "scored_epoch"))
    assert after["progress"]["piece_number"] == 0 and pruner.history.empty
    if asked:
        with pytest.raises(ValueError, match="pass one score per example"):
            pruner.driver.try_scores(lambda index: (index[:3], torch.ones(3, 2)))
