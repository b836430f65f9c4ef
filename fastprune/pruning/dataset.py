"""Gives every sample its position in the data set, so that a score can be stored for its example."""

from __future__ import annotations

import copy
import functools
from collections import namedtuple
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from torch.utils.data import Dataset


class _Indexed(Dataset[Any]):
    def __init__(self, dataset: Any, key: str) -> None:
        self.dataset = dataset
        self.key = key

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return _with_position(self.dataset[index], index, self.key)


class _IndexedBatches(_Indexed):
    """For a data set that reads a batch at once, as `datasets.Dataset` does."""

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        samples = self.dataset.__getitems__(indices)
        return [_with_position(sample, index, self.key) for sample, index in zip(samples, indices, strict=True)]


def with_index(dataset: Any, key: str = "index") -> Dataset[Any]:
    """The same map-style data set, with each sample's position in it.

    A mapping or a named tuple gains the field ``key``.  A tuple gains an element at its end.  Anything else becomes a
    pair.  A mapping keeps its type if that type can be changed.  A data set that reads a batch at once still does.
    Nothing is copied.

    Raises:
        ValueError: ``dataset`` is a dictionary of splits.  Reading a sample raises it if the sample has a field ``key``
            already.

    Example:
        >>> data = [{"text": "book a flight", "label": 0}, {"text": "play a song", "label": 1}]
        >>> with_index(data)[1]
        {'text': 'play a song', 'label': 1, 'index': 1}
    """
    refuse_splits(dataset, "dataset")
    kind = _IndexedBatches if callable(getattr(dataset, "__getitems__", None)) else _Indexed
    return kind(dataset, key)


def refuse_splits(dataset: Any, argument: str) -> None:
    """Refuse a dictionary of data sets, such as ``datasets.DatasetDict``.

    It has a length and items, as a data set has.

    Raises:
        ValueError: it is one.  The message names the splits.
    """
    if not isinstance(dataset, Mapping):
        return
    names = [name for name in dataset if isinstance(name, str)]
    if names:
        raise ValueError(
            f"{argument} is a {type(dataset).__name__} of the splits {names}, not a data set; pass one of them, "
            f"such as data[{names[0]!r}]"
        )


def _with_position(sample: Any, index: int, key: str) -> Any:
    if isinstance(sample, Mapping):
        _check_new(key, sample)
        if not isinstance(sample, MutableMapping):
            return {**sample, key: index}
        indexed = copy.copy(sample)
        indexed[key] = index
        return indexed
    if not isinstance(sample, tuple):
        return (sample, index)
    if not hasattr(sample, "_fields"):
        return (*sample, index)
    _check_new(key, sample._fields)
    return _indexed_type(type(sample), key)(*sample, index)


def _check_new(key: str, fields: Any) -> None:
    if key in fields:
        raise ValueError(f"samples have a field {key!r} already; pass with_index(dataset, key=...)")


@functools.cache
def _indexed_type(kind: Any, key: str) -> Any:
    """The type of the named tuple ``kind`` with one more field."""
    fields = namedtuple(kind.__name__, (*kind._fields, key))  # type: ignore[misc]  # noqa: PYI024
    # Workers send batches of it to the main process, where the type is made again.
    reduce = {"__slots__": (), "__reduce__": lambda self: (_rebuild, (kind, key, tuple(self)))}
    return type(kind.__name__, (fields,), reduce)


def _rebuild(kind: Any, key: str, values: tuple[Any, ...]) -> Any:
    return _indexed_type(kind, key)(*values)
