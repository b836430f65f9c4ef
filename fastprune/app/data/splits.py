"""Finds out from a name which split a file, folder or cell belongs to."""

from __future__ import annotations

import re

ROLES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "devel": "validation",
    "eval": "validation",
    "testa": "validation",
    "test": "test",
    "testb": "test",
}


def role_of(name: str) -> str | None:
    """Return the split that ``name`` means: "train", "validation" or "test", with what follows it.

    None if no word of the name is that of a split, or if two different ones are.

    >>> role_of("wnut17train.conll"), role_of("dev_matched.tsv"), role_of("eng.testb"), role_of("README")
    ('train', 'validation_matched', 'test', None)
    """
    words = re.findall(r"[a-z]+", name.lower())
    found = {ROLES[word] for word in words if word in ROLES}
    if len(found) != 1:
        return None
    more = next((word for word in ("mismatched", "matched") if word in words), None)
    return found.pop() if more is None else f"{found.pop()}_{more}"
