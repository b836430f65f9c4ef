"""Give every sample its position, so that scores find their way back."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset


class _Indexed(Dataset[Any]):
    def __init__(self, dataset: Any, key: str) -> None:
        self.dataset = dataset
        self.key = key

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        sample = self.dataset[index]
        if isinstance(sample, dict):
            if self.key in sample:
                raise ValueError(f"samples have a field {self.key!r} already; pass with_index(dataset, key=...)")
            return {**sample, self.key: index}
        return (*sample, index) if isinstance(sample, tuple) else (sample, index)


def with_index(dataset: Any, key: str = "index") -> Dataset[Any]:
    """The same map-style data set with each sample's position in it.

    A dict sample gains the field ``key``, a tuple sample an element at its end.  Nothing is copied.

    Raises:
        ValueError: (on access) a dict sample has that field already.
    """
    return _Indexed(dataset, key)
