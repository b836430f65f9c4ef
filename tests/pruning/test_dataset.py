"""`with_index`: every kind of sample keeps what it is, and gains its position."""

from collections import OrderedDict, UserDict
from types import MappingProxyType
from typing import NamedTuple

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import fastprune


class Point(NamedTuple):
    x: torch.Tensor
    y: int


class Samples(Dataset):
    def __init__(self, make, n=6):
        self.make, self.n = make, n

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        return self.make(torch.tensor(float(index)), 10 * index)


class Encoding(UserDict):
    """A mapping that is no dict, like `transformers.BatchEncoding`."""


def test_tuples_gain_an_element_and_anything_else_becomes_a_pair():
    assert fastprune.with_index(Samples(lambda x, y: (x, y)))[3] == (3.0, 30, 3)
    assert fastprune.with_index(Samples(lambda x, y: y))[3] == (30, 3)


@pytest.mark.parametrize("kind", [dict, Encoding, OrderedDict, MappingProxyType])
def test_mappings_gain_a_field(kind):
    made = []

    def make(x, y):
        made.append(kind({"x": x, "y": y}))
        return made[-1]

    data = fastprune.with_index(Samples(make), key="place")
    assert dict(data[4]) == {"x": 4.0, "y": 40, "place": 4}
    assert type(data[4]) is (dict if kind is MappingProxyType else kind)
    assert dict(made[0]) == {"x": 4.0, "y": 40}, "the data set's own sample is not touched"
    batch = next(iter(DataLoader(data, batch_size=3)))
    assert batch["place"].tolist() == [0, 1, 2] and batch["x"].tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("workers", [0, 1])
def test_named_tuples_keep_their_names_through_the_loader(workers):
    loader = DataLoader(fastprune.with_index(Samples(Point)), batch_size=4, num_workers=workers)
    batch = next(iter(loader))
    assert batch.x.tolist() == [0.0, 1.0, 2.0, 3.0] and batch.y.tolist() == [0, 10, 20, 30]
    x, y, index = batch
    assert index.tolist() == batch.index.tolist() == [0, 1, 2, 3]


def test_a_batch_is_read_at_once_where_the_data_set_does_that():
    class Columns(Samples):
        asked = []

        def __getitems__(self, indices):
            self.asked.append(list(indices))
            return [{"x": i} for i in indices]

    data = Columns(lambda x, y: pytest.fail("read one by one"))
    batches = list(DataLoader(fastprune.with_index(data), batch_size=4))
    assert data.asked == [[0, 1, 2, 3], [4, 5]]
    assert [batch["index"].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5]]
    assert not hasattr(fastprune.with_index(Samples(Point)), "__getitems__")


def test_a_field_that_exists_already_is_named():
    for make in (lambda x, y: {"index": x}, lambda x, y: Point(x, y), lambda x, y: Encoding(index=x)):
        data = fastprune.with_index(Samples(make), key="y" if make(0, 0) == Point(0, 0) else "index")
        with pytest.raises(ValueError, match="samples have a field '(index|y)' already; pass with_index"):
            data[0]


def test_a_dictionary_of_splits_is_refused():
    splits = {"train": Samples(Point), "test": Samples(Point)}
    with pytest.raises(ValueError, match=r"dataset is a dict of the splits \['train', 'test'\].* such as data\['train"):
        fastprune.with_index(splits)
    assert fastprune.with_index({0: "a", 1: "b"})[1] == ("b", 1)
