"""Data sets of the Hugging Face hub, by id (``owner/name`` or ``owner/name:config``)."""

from __future__ import annotations

import re
from typing import Any

from fastprune.data.columns import Wanted
from fastprune.data.tabular import hold_out
from fastprune.data.types import Split, TextData, build, clean_text
from fastprune.errors import UsageError

_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(:[\w.-]+)?")


def load_hub(data: str, wanted: Wanted, seed: int = 0) -> TextData:
    """Load through ``datasets.load_dataset``; needs the ``datasets`` package and the network or a cache.

    The splits are ``train``, ``validation`` (or ``valid``, ``dev``) and ``test``.  A test split without
    labels (all -1, as in GLUE) or none at all is replaced by validation, and failing that by a tenth of
    train.  Raises `UsageError` when the id is not found or the columns are unclear.
    """
    not_found = f"data={data!r}: neither such a path nor a hub data set was found: check the spelling"
    if not _ID.fullmatch(data):
        raise UsageError(f"{not_found}.")
    try:
        from datasets import load_dataset
    except ImportError:
        raise UsageError(
            f"data={data!r}: no such path, and hub data sets need the datasets package: pip install 'fastprune[demo]'."
        ) from None
    path, _, config = data.partition(":")
    try:
        splits = load_dataset(path, config or None)
    except Exception as error:  # every hub, network and script failure ends in the same advice
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise UsageError(f"{not_found} ({first_line}).") from error
    return from_splits(data, splits, wanted, seed)


def from_splits(name: str, splits: Any, wanted: Wanted, seed: int = 0) -> TextData:
    """A mapping of split name to ``datasets.Dataset`` as TextData (see `load_hub`)."""
    if "train" not in splits:
        raise UsageError(f"data={name!r}: no split 'train', only {', '.join(map(repr, splits))}: choose another.")
    validation_name = next((n for n in ("validation", "valid", "dev") if n in splits), None)
    train = _read_split(name, "train", splits, wanted)
    validation = None if validation_name is None else _read_split(name, validation_name, splits, wanted)
    test = _read_split(name, "test", splits, wanted) if "test" in splits else None
    if train is None:
        raise UsageError(f"data={name!r}: the train split has no labels: choose another data set.")
    if test is None and validation is not None:
        validation, test = None, validation
    if test is None:
        train, test = hold_out(train, seed, name)
    return build(name, train, validation, test)


def _read_split(name: str, role: str, splits: Any, wanted: Wanted) -> Split | None:
    """The split, or None if all its labels are -1 (the hub's way of withholding them)."""
    split = splits[role]
    where = f"{name}, {role}"
    columns = wanted.resolve(list(split.column_names), where)
    labels = list(split[columns.label])
    if labels and all(label == -1 for label in labels):
        return None
    names = getattr(split.features[columns.label], "names", None)
    texts = [_text(value, where, columns.text) for value in split[columns.text]]
    slots = None
    if columns.slots is not None:
        texts = [clean_text(text) for text in texts]
        tag_feature = split.features[columns.slots]
        tag_names = getattr(getattr(tag_feature, "feature", None), "names", None)
        slots = [_tags(value, tag_names) for value in split[columns.slots]]
    pairs = None
    if columns.pair is not None:
        pairs = [_text(value, where, columns.pair) for value in split[columns.pair]]
    return Split(texts, [_label(label, names) for label in labels], slots, pairs)


def _text(value: Any, where: str, column: str) -> str:
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return " ".join(value)
    if not isinstance(value, str):
        raise UsageError(f"{where}: column {column!r} holds a {type(value).__name__}: choose a column of text.")
    return value.strip()


def _label(value: Any, names: list[str] | None) -> str:
    return names[value] if names is not None and isinstance(value, int) and value >= 0 else str(value)


def _tags(value: Any, names: list[str] | None) -> list[str]:
    if isinstance(value, str):
        return value.split()
    return [_label(tag, names) for tag in value]
