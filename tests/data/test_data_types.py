"""`build`: what it derives and what it refuses."""

from dataclasses import replace

import pytest

from fastprune.data import Split, build
from fastprune.errors import UsageError

TRAIN = Split(["play jazz", "go home now"], ["play", "go"], [["O", "B-genre"], ["O", "B-place", "O"]])
TEST = Split(["play it", "stop now", "stop it"], ["play", "stop", "stop"], [["O", "B-it"], ["O", "I-when"], ["O", "O"]])


def test_labels_come_from_train_only_and_the_rest_is_counted():
    data = build("tiny", TRAIN, TEST, TEST)
    assert data.joint
    assert data.intent_names == ["go", "play"]
    assert data.slot_names == ["O", "B-genre", "B-place"]
    # Twice: the same split serves as validation and as test.
    assert data.unseen == {"intent": {"stop": 4}, "slot": {"B-it": 2, "I-when": 2}}


def test_outside_tag_comes_first_even_when_train_never_uses_it():
    train = Split(["jazz"], ["play"], [["B-genre"]])
    data = build("tiny", train, None, Split(["it"], ["play"], [["O"]]))
    assert data.slot_names == ["O", "B-genre"]
    assert data.unseen["slot"] == {}


def test_classification_has_no_slots():
    train = replace(TRAIN, slots=None)
    data = build("tiny", train, None, train)
    assert not data.joint
    assert data.slot_names is None
    assert data.unseen == {"intent": {}}


@pytest.mark.parametrize(
    "changed",
    [
        TRAIN.select([1, 0]),
        TRAIN.select([0]),
        replace(TRAIN, intents=["play", "play"]),
        replace(TRAIN, slots=[["O", "O"], ["O", "B-place", "O"]]),
        replace(TRAIN, texts=["play rock", "go home now"]),
        replace(TRAIN, pairs=["a", "b"]),
        replace(TRAIN, slots=None),
    ],
)
def test_fingerprint_follows_content_and_order(changed):
    test = replace(TEST, slots=None if changed.slots is None else TEST.slots, pairs=changed.pairs and ["x", "y", "z"])
    assert build("a", changed, None, test).fingerprint != build("b", TRAIN, None, TEST).fingerprint


def test_fingerprint_ignores_name_and_test():
    first, second = build("a", TRAIN, None, TEST), build("b", TRAIN, TEST, TRAIN)
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint) == 64


def test_fingerprint_sees_borders_between_fields():
    one = Split(["a b"], ["c"], None)
    other = Split(["a"], ["b c"], None)
    assert build("x", one, None, one).fingerprint != build("x", other, None, other).fingerprint


@pytest.mark.parametrize(
    ("train", "parts"),
    [
        (Split([], [], None), ["tiny, train", "no examples"]),
        (Split(["a b", "c d"], ["x", "y"], [["O", "O"], ["O"]]), ["train, example 2", "2 words but 1 slot"]),
        (Split(["a"], ["x", "y"], None), ["1 texts but 2 intents"]),
        (Split(["a", " "], ["x", "y"], None), ["example 2", "text is empty"]),
        (Split(["a", "b"], ["x", ""], None), ["example 2", "label is empty"]),
        (Split(["a"], ["x"], [["genre"]]), ["'genre'", "BIO"]),
        (Split(["a"], ["x"], [["B-"]]), ["'B-'", "BIO"]),
        (Split(["a  b"], ["x"], [["O", "O"]]), ["3 words but 2 slot tags"]),
    ],
)
def test_bad_splits_are_refused(train, parts):
    with pytest.raises(UsageError) as error:
        build("tiny", train, None, train)
    assert all(part in str(error.value) for part in parts), error.value


def test_slots_in_one_split_only_are_refused():
    with pytest.raises(UsageError, match="only one of train and test has slots"):
        build("tiny", TRAIN, None, replace(TEST, slots=None))


def test_limit_keeps_order_and_test():
    train = Split([f"t{i}" for i in range(50)], ["a"] * 50, None)
    data = build("tiny", train, None, train)
    small = data.limit(10, seed=3)
    assert len(small.train) == 10 and len(small.test) == 50
    assert small.train.texts == sorted(small.train.texts, key=lambda text: int(text[1:]))
    assert small.train.texts == data.limit(10, seed=3).train.texts
    assert small.train.texts != data.limit(10, seed=4).train.texts
    assert data.limit(50) is data
    with pytest.raises(UsageError, match="n_train=0"):
        data.limit(0)
