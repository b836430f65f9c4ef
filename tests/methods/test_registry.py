"""What holds for every registered method: exact counts, order, weights, memory, determinism, and bad scores."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastprune.methods import METHOD_CARDS
from fastprune.methods.seta import SeTa
from fastprune.methods.static import Static
from fastprune.methods.tdds import tdds
from fastprune.pruning import DynamicPruner, History, Method, get_method, method_names
from fastprune.pruning.method import factory_of

CLASSES = 3
BYTES = {
    "full": 8,
    "random": 8,
    "rs2": 8,
    "static": 8 + 4,  # the scores of the file
    "auto": 12,
    "el2n": 12,
    "el2n-free": 12,
    "el2n-static": 12,
    "loss": 12,
    "grand": 12,
    "aum": 12,
    "ccs": 12,
    "orderdp": 12,
    "seta": 12,
    "ucb": 12,
    "forgetting": 13,
    "cartography": 16,
    "infobatch": 12 + 4,  # the weights
    "repb": 12 + 4,
    "dyn-unc": 52,
    "tdds": 48 + 4 * CLASSES,  # grows with the classes; the only one that may exceed 64
}
"""Bytes an example, as the cards say."""

READING = sorted(set(BYTES) - {"full", "random", "rs2", "static"})
BY_RANK = ("el2n", "el2n-free", "el2n-static", "loss", "grand", "orderdp", "ucb")
AVERAGING = ("auto", "ccs", "infobatch", "seta")


def made(name, n):
    """The method of that name; static with scores of its own."""
    return Static(torch.arange(n).float() % 7) if name == "static" else get_method(name)


def scores_of(method, index, values):
    """Values by the metric that the method reads, probabilities from them."""
    if not method.reads:
        return {}
    (metric,) = method.reads
    if metric == "probabilities":
        return {metric: torch.stack([values, 2 * values, 1 - values], 1).softmax(1)}
    return {metric: (values > 0.5).float() if metric == "correct" else values}


def trained(name, n, values, epochs, unscored=0):
    """A method and a history in which all but the first ``unscored`` examples were visited in every epoch."""
    method = made(name, n)
    history = method.new_history(n)
    index = torch.arange(unscored, n)
    for epoch in range(epochs):
        history.update(index, scores_of(method, index, values[index].roll(epoch)), epoch)
    return method, history


@st.composite
def cases(draw):
    n = draw(st.integers(2, 40))
    kind = draw(st.sampled_from(["distinct", "ties", "equal", "zero"]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    values = torch.rand(n, generator=generator)
    if kind == "ties":
        values = (values * 3).floor() / 4
    elif kind in ("equal", "zero"):
        values = torch.full((n,), 0.1 if kind == "equal" else 0.0)
    k = draw(st.sampled_from(sorted({1, n - 1, draw(st.integers(1, n - 1))})))
    return (
        values,
        k,
        draw(st.integers(1, 13)),
        draw(st.integers(0, n - 1)),
        draw(st.integers(0, 5)),
        draw(st.integers(1, 9)),
    )


@pytest.mark.parametrize("name", sorted(BYTES))
def test_another_default_dtype_changes_nothing(name):
    """Statistics stay fp32, so they take the bytes that the card promises, and the subset is the same."""
    values = torch.rand(30, generator=torch.Generator().manual_seed(0))
    method, history = trained(name, 30, values, 4)
    kept = method.select(history, 9, cycle=1, epoch=4, seed=0)
    torch.set_default_dtype(torch.float64)
    try:
        other_method, other = trained(name, 30, values, 4)
        again = other_method.select(other, 9, cycle=1, epoch=4, seed=0)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(again.indices, kept.indices)
    assert (again.weights is None) == (kept.weights is None)
    if kept.weights is not None:
        assert again.weights.dtype == kept.weights.dtype and torch.equal(again.weights, kept.weights)
    for metric in method.reads:
        for key, tensor in history.state(metric).items():
            assert other.state(metric)[key].dtype == tensor.dtype, key
            torch.testing.assert_close(other.state(metric)[key], tensor, rtol=0, atol=0, equal_nan=True)


def test_every_registered_method_has_a_card_and_a_row_in_the_table():
    assert set(method_names()) == set(METHOD_CARDS) == set(BYTES)


@pytest.mark.parametrize("name", sorted(BYTES))
@settings(max_examples=60, deadline=None)
@given(cases())
def test_a_selection_is_exactly_k_ascending_and_weighs_positively(name, case):
    values, k, epochs, unscored, seed, cycle = case
    n = len(values)
    method, history = trained(name, n, values, epochs, unscored)
    before = {key: tensor.clone() for m in method.reads for key, tensor in history.state(m).items()}
    random_state = torch.get_rng_state()
    kept = method.select(history, k, cycle=cycle, epoch=epochs, seed=seed)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(history.state(m)[key], before[key]) for m in method.reads for key in history.state(m))
    indices = kept.indices.tolist()
    assert kept.indices.dtype == torch.int64
    assert len(indices) == (n if name == "full" else k)
    assert indices == sorted(set(indices)) and 0 <= indices[0] and indices[-1] < n
    if kept.weights is not None:
        assert method.weighted and kept.weights.dtype == torch.float32 and len(kept.weights) == k
        assert bool((kept.weights > 0).all()) and bool(kept.weights.isfinite().all())
    if name in READING:
        assert set(range(unscored)) <= set(indices) or set(indices) <= set(range(unscored)), "the unscored first"
    again = method.select(history, k, cycle=cycle, epoch=epochs, seed=seed)
    assert torch.equal(again.indices, kept.indices)


@pytest.mark.parametrize("name", sorted(BYTES))
def test_the_subset_does_not_depend_on_threads(name):
    n = 100_000  # torch divides a reduction of more than 32,768 numbers among its threads
    values = torch.rand(n, generator=torch.Generator().manual_seed(0)).mul(1000).round().div(1000)
    threads = torch.get_num_threads()
    found = []
    try:
        for number in (1, 4):
            torch.set_num_threads(number)
            method, history = trained(name, n, values, epochs=3)
            found.append(method.select(history, n // 3, cycle=2, epoch=3, seed=1))
    finally:
        torch.set_num_threads(threads)
    one, four = found
    assert torch.equal(one.indices, four.indices)
    assert one.weights is None or torch.equal(one.weights, four.weights)


def run(method, n=60, epochs=4, keep=0.5, observe=None, **options):
    """A pruner after a run in steps of 20 whose scores are ``observe(index, epoch)``, or random."""
    pruner = DynamicPruner(n, keep_fraction=keep, method=method, **options)
    values = torch.rand(n, generator=torch.Generator(device="cpu").manual_seed(0), device="cpu")

    def scores(index, epoch):
        return scores_of(pruner.method, index, values[index] if observe is None else observe(index, epoch))

    for epoch in pruner.epochs(epochs):
        for index in torch.tensor(list(pruner.sampler), device="cpu").split(20):
            pruner.weights(index)
            pruner.observe(index, scores(index, epoch))
        if pruner.wants_scores:
            pruner.rescore(lambda index, epoch=epoch: scores(index, epoch))
    return pruner


@pytest.mark.parametrize("name", sorted(BYTES))
def test_memory_is_what_the_card_says(name):
    pruner = run(made(name, 60), final_share=0.0)
    state = pruner.state_dict()
    history = state["history"]
    tensors = [history["visits"], history["scored_epoch"]]
    tensors += [tensor for s in history["state"].values() for tensor in s.values()]
    tensors += [state["weights"]] if state["weights"] is not None else []
    tensors += [pruner.method.scores] if name == "static" else []
    assert sum(tensor.untyped_storage().nbytes() for tensor in tensors) == 60 * BYTES[name]
    assert BYTES[name] <= 64 or name == "tdds"
    assert (state["weights"] is not None) == pruner.method.weighted


def test_the_memory_of_tdds_grows_with_the_classes_alone():
    for classes in (2, 1000):
        history = History(5, tdds().statistics)
        history.update(torch.arange(5), {"probabilities": torch.rand(5, classes)}, 0)
        tensors = [history.visits, history.scored_epoch, *history.state("probabilities").values()]
        assert sum(tensor.nbytes for tensor in tensors) == 5 * (48 + 4 * classes)


@pytest.mark.parametrize("name", READING)
def test_everything_remembered_is_read(name):
    """Whatever tensor of the state is spoiled, the statistic of some example changes, now or after its next visit."""
    values = torch.rand(30, generator=torch.Generator().manual_seed(1))
    read = set()
    for epochs in (3, 12):
        method, history = trained(name, 30, values, epochs)
        (metric,) = method.reads
        for key in history.state(metric):
            kept, spoiled = (method.new_history(30) for _ in range(2))
            for copy in (kept, spoiled):
                copy.load_state_dict(history.state_dict())
            tensor = spoiled.state(metric)[key]
            tensor.copy_(~tensor if tensor.dtype == torch.bool else torch.rand_like(tensor) + 1)
            now = torch.equal(spoiled.value(metric), kept.value(metric))
            for copy in (kept, spoiled):
                copy.update(torch.arange(30), scores_of(method, torch.arange(30), values), epochs)
            if not (now and torch.equal(spoiled.value(metric), kept.value(metric))):
                read.add(key)
    assert read == set(history.state(metric))


@pytest.mark.parametrize("name", READING)
def test_nan_is_one_error_that_names_the_metric_and_the_example(name):
    method = get_method(name)
    (metric,) = method.reads

    def scores(index):
        values = torch.where(index == 37, torch.nan, index / 60)
        return {"correct": values} if metric == "correct" else scores_of(method, index, values)

    pruner = DynamicPruner(60, keep_fraction=0.5, final_share=0.0, method=method)
    epochs = pruner.epochs(2)
    next(epochs)
    for index in torch.tensor(list(pruner.sampler)).split(20):
        pruner.observe(index, scores(index))
    if pruner.wants_scores:
        pruner.rescore(scores)
    # RePB's mean of a batch with a NaN in it is none: all of that batch are named, the smallest index first.
    example = r"\d+ is NaN, and of 19 others" if name == "repb" else "37 is NaN, and of 0 others"
    with pytest.raises(ValueError, match=f"'{metric}' of example {example}"):
        next(epochs)


@pytest.mark.parametrize("name", BY_RANK)
def test_an_infinite_score_is_the_largest_where_rank_alone_counts(name):
    method = get_method(name)
    (metric,) = method.reads
    history = method.new_history(20)
    values = torch.rand(20)
    values[11] = torch.inf
    history.update(torch.arange(20), {metric: values}, 0)
    history.refuse_nan()
    kept = [method.select(history, 10, cycle=1, epoch=1, seed=seed).indices.tolist() for seed in range(20)]
    # OrderDP looks at a pool, which may leave it out.
    assert all(11 in indices for indices in kept) or (name == "orderdp" and any(11 in indices for indices in kept))


@pytest.mark.parametrize("name", AVERAGING)
def test_an_infinite_score_is_an_error_where_scores_are_compared_with_each_other(name):
    method = get_method(name)
    (metric,) = method.reads
    history = method.new_history(20)
    history.update(torch.arange(5, 20), {metric: torch.arange(15.0)}, 0)
    assert len(method.select(history, 10, cycle=1, epoch=1, seed=0)) == 10, "the unscored are none"
    history.update(torch.tensor([9]), {metric: torch.tensor([torch.inf])}, 0)
    with pytest.raises(ValueError, match=f"'{metric}' of example 9 is infinite"):
        method.select(history, 10, cycle=1, epoch=1, seed=0)


@pytest.mark.parametrize("name", ["aum", "cartography", "dyn-unc", "repb"])
def test_an_infinite_score_in_an_average_is_refused_before_the_cut(name):
    method = get_method(name)

    def observe(index, epoch):
        return torch.where(index == 3, torch.inf, index.float() / 60)

    with pytest.raises(ValueError, match=f"'{method.reads[0]}' of example .* is NaN"):
        run(method, observe=observe, warmup_epochs=3)


@pytest.mark.parametrize("name", sorted(BYTES))
def test_another_default_device(name):
    expected = run(made(name, 60)).kept_indices
    method = made(name, 60)
    with torch.device("meta"):
        found = run(method).kept_indices
    assert torch.equal(found, expected)


def test_a_method_is_one_file():
    """Each is registered by its own module, whose name is the method's."""
    for name in BYTES:
        assert factory_of(name).__module__ == f"fastprune.methods.{name.replace('-', '_')}"


@pytest.mark.parametrize(
    "name, message",
    [
        ("magic", "choose one of .*el2n-free"),
        ("el2n:0.5", "takes no argument, got '0.5'"),
        ("static", "needs an argument: static:"),
        ("seta:ten", "takes no argument"),
    ],
)
def test_bad_names_are_answered_with_what_there_is(name, message):
    with pytest.raises(ValueError, match=message):
        get_method(name)


def test_a_method_of_ones_own_is_taken_as_it_is():
    method = SeTa(groups=4)
    assert get_method(method) is method and isinstance(method, Method)


@pytest.mark.parametrize("name", READING)
def test_a_warm_up_too_short_to_tell_examples_apart_is_warned_of(name, caplog):
    method = get_method(name)
    for warmup in (1, 2, 3):
        caplog.clear()
        DynamicPruner(30, keep_fraction=0.5, method=method, warmup_epochs=warmup)
        assert ("it cannot tell examples apart" in caplog.text) == (warmup < method.least_warmup)
        if method.observes and warmup < method.least_warmup:
            _, history = trained(name, 30, torch.rand(30), epochs=warmup)
            value = history.value(method.reads[0])
            # Forgetting tells who was never right after one epoch, and nothing else.
            assert len(value.unique()) == 1 or (name == "forgetting" and len(value.unique()) == 2)
    caplog.clear()
    DynamicPruner(30, keep_fraction=1.0, method=method, warmup_epochs=1)
    assert not caplog.text
