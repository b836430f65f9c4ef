"""Facts about a training set: whether it can be read by index, its fingerprint, and the lengths of its examples."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import IterableDataset

from fastprune.pruning.dataset import refuse_splits
from fastprune.pruning.keep import counts_tokens

FINGERPRINT_ROWS = 64


def check_readable_by_index(dataset: Any, name: str, advice: str = "") -> None:
    """Refuse a stream of examples, and a dictionary of data sets.

    Raises:
        ValueError: it is one.  The message calls it ``name`` and ends with ``advice``.
    """
    refuse_splits(dataset, name)
    by_index = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    if isinstance(dataset, IterableDataset) or not by_index:
        raise ValueError(
            f"{name} is a stream ({type(dataset).__name__}): its examples cannot be read by index; pass a map-style "
            f"data set, with __len__ and __getitem__{advice}"
        )


def is_hub_dataset(dataset: Any) -> bool:
    """Whether it is a map-style ``datasets.Dataset``."""
    # If such an object exists, the library has been imported.  Importing it here would cost other users seconds.
    datasets = sys.modules.get("datasets")
    return datasets is not None and isinstance(dataset, datasets.Dataset)


def fingerprint(dataset: Any) -> str | None:
    """SHA-256 of a ``datasets.Dataset``: its column names, its length and up to 64 evenly spaced rows.

    Other data sets have None.  Rows are read as stored, without the data set's transform.  Decoding or augmenting would
    make them differ between two runs.
    """
    if not is_hub_dataset(dataset):
        return None
    n = len(dataset)
    rows = dataset.with_format("arrow")
    digest = hashlib.sha256(repr((sorted(dataset.column_names), n)).encode())
    for row in range(0, n, max(1, -(-n // FINGERPRINT_ROWS))):
        digest.update(repr(sorted(rows[row].to_pydict().items())).encode())
    return digest.hexdigest()


def lengths(dataset: Any, column: str = "length") -> Sequence[int] | None:
    """The length of every example, from its column or that of ``input_ids``, or from an attribute ``lengths``.

    None if finding it would mean reading samples.
    """
    if is_hub_dataset(dataset):
        given = _whole_numbers(dataset, column)
        return list_lengths(dataset, "input_ids") if given is None else given
    known = getattr(dataset, column, getattr(dataset, "lengths", None))
    if isinstance(known, (list, tuple, Tensor)) and len(known) == len(dataset):
        return [int(length) for length in known]
    ids = getattr(dataset, "input_ids", None)
    if isinstance(ids, (list, tuple, Tensor)) and len(ids) == len(dataset):
        return [len(example) for example in ids]
    return None


def lengths_for(keep_fraction: Any, dataset: Any, column: str = "length") -> Sequence[int] | None:
    """`lengths`, if a budget of tokens needs them."""
    return lengths(dataset, column) if counts_tokens(keep_fraction) else None


def _whole_numbers(dataset: Any, column: str) -> Sequence[int] | None:
    import pyarrow

    stored = _stored(dataset, column)
    if stored is None or stored.null_count or not pyarrow.types.is_integer(stored.type):
        return None
    return stored.to_pylist()


def list_lengths(dataset: Any, column: str) -> Sequence[int] | None:
    """How long each example's list in this column of a ``datasets.Dataset`` is.  None if there are no such lists."""
    import pyarrow
    import pyarrow.compute

    stored = _stored(dataset, column)
    if stored is None or not (pyarrow.types.is_list(stored.type) or pyarrow.types.is_large_list(stored.type)):
        return None
    return pyarrow.compute.list_value_length(stored).fill_null(0).to_pylist()


def _stored(dataset: Any, column: str) -> Any:
    """The column as it is stored, without the data set's format and transform.  None if there is no such column."""
    if column not in dataset.column_names:
        return None
    return dataset.select_columns([column]).with_format("arrow")[:][column]
