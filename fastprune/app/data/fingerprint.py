"""Tells data apart by a digest, so that a run never goes on with other data."""

from __future__ import annotations

import hashlib

from fastprune.app.data.types import Label, Split, TextData


def split_fingerprint(split: Split) -> str:
    """Return the SHA-256 (hex) of a split's content and order.  Rows and ids do not count."""
    digest = hashlib.sha256()
    for i in range(len(split)):
        fields = [split.texts[i]]
        fields += [] if split.labels is None else _as_texts(split.labels[i])
        fields += [] if split.pairs is None else ["pair", split.pairs[i]]
        fields += [] if split.tags is None else ["slots", *split.tags[i]]
        fields += [] if split.turns is None else ["turns", *(part for turn in split.turns[i] for part in turn)]
        # Length-prefixed, so no text can imitate a border between two fields.
        for field in [str(len(fields)), *fields]:
            raw = field.encode("utf-8", "surrogatepass")
            digest.update(f"{len(raw)}:".encode() + raw)
    return digest.hexdigest()


def identity_of(data: TextData) -> str:
    """Return what two runs on the same data share: the SHA-256 of the training and the deciding test examples."""
    return hashlib.sha256(f"{data.fingerprint}{split_fingerprint(data.test)}".encode()).hexdigest()


def _as_texts(label: Label) -> list[str]:
    if isinstance(label, tuple):
        return ["labels", *label]
    return [label if isinstance(label, str) else repr(label)]
