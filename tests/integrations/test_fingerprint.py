"""How a data set is told from another, and where it cannot be."""

from __future__ import annotations

import pytest

from fastprune.integrations.datasets import fingerprint

toy = pytest.importorskip("helpers.toy_trainer")


def test_an_equal_data_set_built_anew_has_the_same_fingerprint():
    one = toy.hub_dataset()
    assert fingerprint(one) == fingerprint(toy.hub_dataset())
    assert fingerprint(one.with_transform(lambda batch: batch)) == fingerprint(one)
    assert fingerprint(one.select(range(49, -1, -1))) != fingerprint(one)
    assert fingerprint(toy.PlainDataset()) is None
