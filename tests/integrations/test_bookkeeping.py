"""What is put back after a forward pass that is no training, and what is not even copied."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, defaultdict, deque

import numpy as np
import pytest
import torch

from fastprune.integrations.bookkeeping import MANY, left_as_it_was


class Meter:
    def __init__(self) -> None:
        self.total, self.by_name = 0.0, {"a": [1]}

    def update(self, value: float) -> None:
        self.total += value
        self.by_name["a"].append(2)
        self.fresh = value


class Metric(torch.nn.Module):
    """A module without parameters, like those of torchmetrics."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("correct", torch.zeros(()))
        self.values = []


class Owner:
    def __init__(self) -> None:
        self.count, self.name = 3, "one"
        self.metrics = {"train": defaultdict(list, loss=[1.0]), "eval": defaultdict(list)}
        self.ordered, self.counter = OrderedDict(a=1, b=2), Counter("aab")
        self.queue, self.set, self.pair = deque([1, 2], maxlen=2), {1}, ([1], [2])
        self.meter, self.metric = Meter(), Metric()
        self.tensor, self.array = torch.zeros(3), np.zeros(2)
        self.python, self.numpy = random.Random(1), np.random.default_rng(1)
        self.legacy, self.torch = np.random.RandomState(1), torch.Generator().manual_seed(1)
        self.model = torch.nn.Linear(2, 2)
        self.circle = [self]

    def work(self) -> None:
        self.count += 1
        self.name = "other"
        self.metrics["eval"]["accuracy"].append(0.5)
        self.metrics["train"]["loss"].append(2.0)
        self.metrics["train"]["n"] = 1
        self.ordered.pop("b")
        self.counter.update("b")
        self.queue.append(3)
        self.set.add(2)
        self.pair[0].append(9)
        self.meter.update(1.0)
        self.metric.correct += 1
        self.metric.values.append(1)
        self.tensor.add_(1)
        self.array += 1
        self.new = 1
        self.draws()

    def draws(self) -> list:
        return [
            self.python.random(),
            self.numpy.random(),
            self.legacy.rand(),
            torch.rand((), generator=self.torch).item(),
        ]

    def plain(self) -> list:
        parts = [self.count, self.name, {k: dict(v) for k, v in self.metrics.items()}, list(self.ordered.items())]
        parts += [self.counter, list(self.queue), self.set, self.pair, vars(self.meter), self.metric.correct.item()]
        return [str(parts + [self.metric.values, self.tensor.tolist(), self.array.tolist()]), "new" in vars(self)]


@pytest.mark.parametrize("error", [False, True])
def test_plain_data_are_as_before(error):
    owner, untouched = Owner(), Owner()
    held = owner.metrics["train"]["loss"], owner.metrics, owner.meter, owner.tensor
    try:
        with left_as_it_was(owner):
            owner.work()
            if error:
                raise KeyError
    except KeyError:
        pass
    assert owner.plain() == untouched.plain() and vars(owner).keys() == vars(untouched).keys()
    assert owner.draws() == untouched.draws()
    now = owner.metrics["train"]["loss"], owner.metrics, owner.meter, owner.tensor
    assert all(one is other for one, other in zip(held, now, strict=True))
    assert type(owner.metrics["eval"]) is defaultdict and owner.queue.maxlen == 2


def test_models_data_and_what_is_large_are_not_copied():
    class Unseen(dict):
        def values(self):
            raise AssertionError("looked into")

    owner = Owner()
    owner.large, owner.rows = torch.zeros(MANY + 1), [Unseen(a=1)] * (MANY + 1)
    owner.data = data = Meter()
    weight = owner.model.weight
    with left_as_it_was(owner, apart_from=[data]):
        owner.large += 1
        weight.data += 1
        owner.model.note = 1
        data.update(2.0)
        owner.rows.append({})
    assert owner.large[0] == 1 and data.total == 2.0 and owner.model.note == 1
    assert owner.model.weight is weight and len(owner.rows) == MANY + 1


def test_of_a_data_set_only_generators_are_put_back():
    class Data:
        def __init__(self) -> None:
            self.inner, self.read = Owner(), []

    data = Data()
    with left_as_it_was(readers=[data]):
        data.inner.work()
        data.read.append(1)
    assert data.inner.draws() == Owner().draws() and data.read == [1] and data.inner.count == 4
