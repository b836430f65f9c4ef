"""Ramps, budgets, weights and loaders that read ahead, across a crash; and states that are refused whole."""

import numpy as np
import pytest
import torch
from helpers.combinations import some
from torch.utils.data import DataLoader

from fastprune.methods.infobatch import InfoBatch
from fastprune.pruning import Budget, CosineRamp, DynamicPruner, LinearRamp, Method
from fastprune.selection import hardest

N = 97


class Recorder:
    """A loop that writes down which examples it trained on with which weights; its scores depend on the example alone.

    ``ahead`` wraps the loader as accelerate does, which draws a batch before the one before it is trained on.
    """

    def __init__(self, ahead=False, workers=0, **options):
        self.pruner = DynamicPruner(N, **options)
        self.ahead, self.workers = ahead, workers
        self.steps = []

    def batches(self):
        loader = DataLoader(
            range(N),
            sampler=self.pruner.sampler,
            batch_size=10,
            num_workers=self.workers,
            generator=torch.Generator(),
        )
        return look_ahead(loader) if self.ahead else loader

    def score(self, index, epoch):
        return 1.0 + torch.sin(index * 12.9898 + epoch).abs() * 2

    def run(self, epochs, stop_after=None):
        for epoch in self.pruner.epochs(epochs):
            for index in self.batches():
                weights = self.pruner.weights(index)
                self.pruner.observe(index, self.score(index, epoch))
                self.steps.append((epoch, index.tolist(), None if weights is None else weights.tolist()))
                if len(self.steps) == stop_after:
                    return
            if self.pruner.wants_scores:
                self.pruner.rescore(lambda index, epoch=epoch: self.score(index, epoch))


def look_ahead(loader):
    """The loader's batches, each after the next one has been drawn."""
    iterator = iter(loader)
    held = next(iterator, None)
    while held is not None:
        following = next(iterator, None)
        yield held
        held = following


def assert_resumes(tmp_path, epochs, stops, ahead=False, workers=0, **options):
    """After a crash at the end of any of these steps, the rest of the run equals that of an undisturbed run."""
    whole = Recorder(**options)
    whole.run(epochs)
    assert sum(len(index) for _, index, _ in whole.steps) == whole.pruner.total_examples(epochs)
    for stop in stops:
        assert 0 < stop < len(whole.steps)
        first, second = (Recorder(ahead, workers, **options) for _ in range(2))
        first.run(epochs, stop_after=stop)
        torch.save(first.pruner.state_dict(), tmp_path / "state.pt")
        second.pruner.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        second.run(epochs)
        assert first.steps + second.steps == whole.steps
        assert str(second.pruner.state_dict()["history"]) == str(whole.pruner.state_dict()["history"])


SCHEDULES = {
    "linear": dict(keep_fraction=LinearRamp(0.9, 0.2), cycle_epochs=2),
    "cosine": dict(keep_fraction=CosineRamp(0.2, 0.8)),
    "function": dict(keep_fraction=lambda progress: 0.3 + 0.4 * progress**2),
    "budget": dict(keep_fraction=Budget(0.6), cycle_epochs=3),
    "final": dict(keep_fraction=0.4, cycle_epochs=2, final_share=0.3),
    "budget and final": dict(keep_fraction=Budget(0.7), final_share=0.25),
}


@pytest.mark.parametrize("method", ["el2n-free", "el2n", "infobatch", "repb", "seta", "rs2"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ramps_budgets_and_weights_resume_exactly(tmp_path, schedule, method):
    options = dict(method=method, seed=3, **SCHEDULES[schedule])
    # In the warm-up, at its end, in the middle of cycles, and in the last epoch.
    steps = DynamicPruner(N, **options).total_batches(9, 10)
    assert_resumes(tmp_path, 9, (4, 10, 13, 24, 31, steps - 2), **options)


@pytest.mark.parametrize("method", ["infobatch", "el2n-free", "random"])
@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_loader_drew_ahead_is_not_taken_for_trained(tmp_path, method, workers):
    options = dict(keep_fraction=0.5, cycle_epochs=2, method=method, seed=2)
    steps = (3, 10, 13, 17)
    # Workers take long to start: at the warm-up's end and inside a cycle.
    assert_resumes(tmp_path, 5, some(steps, steps[1:3]) if workers else steps, ahead=True, workers=workers, **options)


@pytest.mark.parametrize("ahead", [False, True])
def test_a_state_before_the_first_step_of_an_epoch_is_at_its_beginning(ahead):
    loop = Recorder(ahead, keep_fraction=0.5, method="el2n-free")
    epochs = loop.pruner.epochs(3)
    for _ in range(2):
        next(epochs)
        batches = iter(loop.batches())
        first = next(batches)  # drawn, not trained on
        if loop.steps:
            assert loop.pruner.progress.position == 0
            assert loop.pruner.state_dict()["progress"]["position"] == 0
        for index in (first, *batches):
            loop.pruner.observe(index, loop.score(index, 0))
            loop.steps.append(index)


def test_position_is_what_was_observed_under_a_loader_that_draws_ahead():
    loop = Recorder(ahead=True, keep_fraction=0.5, method="el2n-free")
    for _ in loop.pruner.epochs(1):
        for step, index in enumerate(loop.batches()):
            drawn = min(N, 10 * (step + 2))
            assert loop.pruner.progress.handed_out == drawn
            loop.pruner.observe(index, loop.score(index, 0))
            assert loop.pruner.progress.position == min(N, 10 * (step + 1))


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda s: s.update(version=1), "version"),
        (lambda s: s["history"].update(version=1), "version"),
        (lambda s: s.update(version=2), "version"),
        (lambda s: s["history"].update(n=N + 1), "n = 98"),
        (lambda s: s.update(n=N - 1), "n = 96"),
    ],
)
def test_a_state_of_another_version_or_size_is_refused_whole(spoil, message):
    source = Recorder(keep_fraction=0.5, method="infobatch", final_share=0.0)
    source.run(3)
    state = source.pruner.state_dict()
    spoil(state)
    other = DynamicPruner(N, keep_fraction=0.5, method="infobatch", final_share=0.0)
    before = str(other.state_dict())
    with pytest.raises(ValueError, match=message):
        other.load_state_dict(state)
    assert str(other.state_dict()) == before


@pytest.mark.parametrize(
    "change",
    [
        dict(keep_fraction=LinearRamp(0.9, 0.3)),
        dict(keep_fraction=CosineRamp(0.9, 0.2)),
        dict(keep_fraction=Budget(0.9)),
        dict(keep_fraction=lambda progress: 0.9 - 0.69 * progress),
        dict(cycle_epochs=2),
        dict(warmup_epochs=2),
        dict(final_share=0.5),
        dict(method=InfoBatch(max_drop=0.5)),
        dict(method="repb"),
    ],
)
def test_other_settings_are_refused_whole(change):
    options = dict(keep_fraction=LinearRamp(0.9, 0.2), method="infobatch")
    source = Recorder(**options)
    source.run(4, stop_after=12)
    other = DynamicPruner(N, **{**options, **change})
    before = str(other.state_dict())
    with pytest.raises(ValueError, match="the checkpoint has"):
        other.load_state_dict(source.pruner.state_dict())
    assert str(other.state_dict()) == before


def test_the_state_of_another_method_is_refused_with_its_name():
    state = DynamicPruner(N, keep_fraction=0.5, method="el2n-free").state_dict()
    with pytest.raises(ValueError, match="this run has 'auto'; go on with method='el2n-free', or start a new run"):
        DynamicPruner(N, keep_fraction=0.5).load_state_dict(state)


def test_the_same_settings_written_otherwise_are_the_same():
    source = Recorder(keep_fraction=LinearRamp(1, 0.5), method="el2n-free", seed=np.int64(3))
    source.run(3)
    other = DynamicPruner(N, keep_fraction=LinearRamp(1.0, np.float64(0.5)), method="el2n-free", seed=3)
    other.load_state_dict(source.pruner.state_dict())
    assert torch.equal(other.kept_indices, source.pruner.kept_indices)


def test_weighted_losses_of_a_cycle_are_those_of_the_method():
    loop = Recorder(keep_fraction=0.7, method="infobatch", final_share=0.0, seed=1)
    loop.run(2)
    losses = loop.score(torch.arange(N), 0)
    history = loop.pruner.method.new_history(N)
    history.update(torch.arange(N), {"loss": losses}, 0)
    expected = loop.pruner.method.select(history, round(0.7 * N), cycle=1, epoch=1, seed=1)
    table = dict(zip(expected.indices.tolist(), expected.weights.tolist(), strict=True))
    second = [(i, w) for epoch, index, weights in loop.steps if epoch == 1 for i, w in zip(index, weights, strict=True)]
    assert dict(second) == table and len(second) == len(table)
    assert all(weights is None for epoch, _, weights in loop.steps if epoch == 0)
    batch = torch.tensor([i for i, _ in second[:10]])
    mean = sum(w * losses[i] for i, w in second[:10]) / 10
    torch.testing.assert_close(loop.pruner.mean_loss(losses[batch], batch), mean)


@pytest.mark.parametrize("index", [torch.tensor([0.0, 1.0]), torch.tensor([True, False])])
def test_an_index_that_was_cast_is_refused(index):
    pruner = DynamicPruner(10, keep_fraction=0.5)
    next(pruner.epochs(2))
    with pytest.raises(TypeError, match="index must be integer positions"):
        pruner.observe(index, torch.rand(2))


def test_an_empty_batch_changes_nothing():
    pruner = DynamicPruner(10, keep_fraction=0.5, method="repb")
    next(pruner.epochs(2))
    pruner.observe(torch.empty(0, dtype=torch.int64), torch.empty(0))
    assert pruner.history.empty and pruner.progress.position == 0


@pytest.mark.parametrize(
    "keep, epochs, others, method",
    [
        (LinearRamp(0.2, 1.0), 4, 8, "el2n-free"),
        (LinearRamp(1.0, 0.2), 8, 4, "el2n-free"),
        (Budget(0.6), 8, 5, "el2n-free"),
        (Budget(0.6), 5, 8, "el2n-free"),
        (0.5, 8, 16, "infobatch"),  # whose last eighth is on all examples
    ],
)
def test_a_number_of_epochs_that_would_have_made_other_epochs_is_refused(keep, epochs, others, method):
    source = Recorder(keep_fraction=keep, method=method)
    for epoch in source.pruner.epochs(epochs):
        if epoch == (7 if method == "infobatch" else 3):
            break
        for index in source.batches():
            source.pruner.weights(index)
            source.pruner.observe(index, source.score(index, epoch))
    state = source.pruner.state_dict()
    with pytest.raises(ValueError, match="go on with the number of epochs"):
        next(source.pruner.epochs(others))
    other = Recorder(keep_fraction=keep, method=method)
    other.pruner.load_state_dict(state)
    with pytest.raises(ValueError, match="go on with the number of epochs"):
        next(other.pruner.epochs(others))
    assert next(other.pruner.epochs(epochs)) == epoch


def test_a_longer_run_goes_on_where_its_epochs_so_far_are_the_same():
    long, short = (Recorder(keep_fraction=0.5, cycle_epochs=2, method="el2n-free") for _ in range(2))
    long.run(8)
    short.run(4, stop_after=24)
    state = short.pruner.state_dict()
    resumed = Recorder(keep_fraction=0.5, cycle_epochs=2, method="el2n-free")
    resumed.pruner.load_state_dict(state)
    resumed.run(8)
    assert short.steps[:24] + resumed.steps == long.steps


@pytest.mark.parametrize("stop", [3, 10, 14])
def test_a_loop_interrupted_in_its_process_goes_on(stop):
    whole, broken = (Recorder(keep_fraction=0.5, method="el2n-free") for _ in range(2))
    whole.run(4)
    broken.run(4, stop_after=stop)
    broken.run(4)
    assert broken.steps == whole.steps
    assert torch.equal(broken.pruner.kept_indices, whole.pruner.kept_indices)


@pytest.mark.parametrize("observes", [True, False])
def test_a_run_that_dropped_its_last_batches_has_ended_all_the_same(observes):
    loop = Recorder(keep_fraction=0.5, method="el2n-free" if observes else "random")
    for epoch in loop.pruner.epochs(3):
        assert len(loop.pruner.sampler) % 10
        for index in DataLoader(range(N), sampler=loop.pruner.sampler, batch_size=10, drop_last=True):
            if observes:
                loop.pruner.observe(index, loop.score(index, epoch))
    assert list(loop.pruner.epochs(3)) == []
    other = Recorder(keep_fraction=0.5, method="el2n-free" if observes else "random")
    other.pruner.load_state_dict(loop.pruner.state_dict())
    assert list(other.pruner.epochs(3)) == [] and list(other.pruner.epochs(4)) == [3]


def test_a_statistic_without_a_repr_of_its_own_is_resumed():
    class Peak:
        bytes_per_example = 4

        def new_state(self, n):
            return {"peak": torch.zeros(n)}

        def update(self, state, index, values, visits):
            state["peak"][index] = torch.maximum(state["peak"][index], values)

        def value(self, state, visits):
            return state["peak"].clone()

    class Peaks(Method):
        name, observes = "peaks", True

        def __init__(self):
            self.statistics = {"el2n": Peak()}

        def select(self, history, k, *, cycle, epoch, seed):
            return hardest(history.value("el2n"), k)

    source = Recorder(keep_fraction=0.5, method=Peaks())
    source.run(3)
    other = Recorder(keep_fraction=0.5, method=Peaks())
    other.pruner.load_state_dict(source.pruner.state_dict())
    assert torch.equal(other.pruner.history.value("el2n"), source.pruner.history.value("el2n"))
