"""`build`: what it derives and what it refuses."""

from dataclasses import replace

import pytest

from fastprune.app.data import Split, build
from fastprune.app.data.build import limit, limit_held_out
from fastprune.errors import UsageError

TRAIN = Split(["play jazz", "go home now"], ["play", "go"], [["O", "B-genre"], ["O", "B-place", "O"]])
TEST = Split(["play it", "stop now", "stop it"], ["play", "stop", "stop"], [["O", "B-it"], ["O", "I-when"], ["O", "O"]])


def test_labels_come_from_train_only_and_the_rest_is_counted():
    data = build("tiny", TRAIN, {"validation": TEST, "test": TEST})
    assert data.kind == "joint" and data.reported == ("test",) and data.validation == "validation"
    assert data.label_names == ["go", "play"]
    assert data.tag_names == ["O", "B-genre", "B-place"]
    # Twice: the same split serves as validation and as test.
    assert data.unseen == {"label": {"stop": 4}, "tag": {"B-it": 2, "I-when": 2}}


def test_outside_tag_comes_first_even_when_train_never_uses_it():
    train = Split(["jazz"], ["play"], [["B-genre"]])
    data = build("tiny", train, {"test": Split(["it"], ["play"], [["O"]])})
    assert data.tag_names == ["O", "B-genre"]
    assert data.unseen["tag"] == {}


def test_classification_has_no_slots():
    train = replace(TRAIN, tags=None)
    data = build("tiny", train, {"test": train})
    assert data.kind == "classification"
    assert data.tag_names is None
    assert data.unseen == {"label": {}}


@pytest.mark.parametrize(
    "changed",
    [
        TRAIN.select([1, 0]),
        TRAIN.select([0]),
        replace(TRAIN, labels=["play", "play"]),
        replace(TRAIN, tags=[["O", "O"], ["O", "B-place", "O"]]),
        replace(TRAIN, texts=["play rock", "go home now"]),
        replace(TRAIN, pairs=["a", "b"]),
        replace(TRAIN, tags=None),
    ],
)
def test_fingerprint_follows_content_and_order(changed):
    test = replace(TEST, tags=None if changed.tags is None else TEST.tags, pairs=changed.pairs and ["x", "y", "z"])
    assert build("a", changed, {"test": test}).fingerprint != build("b", TRAIN, {"test": TEST}).fingerprint


def test_fingerprint_ignores_name_and_test():
    first, second = build("a", TRAIN, {"test": TEST}), build("b", TRAIN, {"validation": TEST, "test": TRAIN})
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint) == 64


def test_fingerprint_sees_borders_between_fields():
    one = Split(["a b"], ["c"], None)
    other = Split(["a"], ["b c"], None)
    assert build("x", one, {"test": one}).fingerprint != build("x", other, {"test": other}).fingerprint


@pytest.mark.parametrize(
    ("train", "parts"),
    [
        (Split([], [], None), ["tiny, train", "no examples"]),
        (Split(["a b", "c d"], ["x", "y"], [["O", "O"], ["O"]]), ["train, example 2", "2 words but 1 tags"]),
        (Split(["a"], ["x", "y"], None), ["1 texts but 2 labels"]),
        (Split(["a", " "], ["x", "y"], None), ["example 2", "text is empty"]),
        (Split(["a", "b"], ["x", ""], None), ["example 2", "label is empty"]),
        (Split(["a"], ["x"], [["genre"]]), ["'genre'", "BIO"]),
        (Split(["a"], ["x"], [["B-"]]), ["'B-'", "BIO"]),
        (Split(["a  b"], ["x"], [["O", "O"]]), ["3 words but 2 tags"]),
    ],
)
def test_bad_splits_are_refused(train, parts):
    with pytest.raises(UsageError) as error:
        build("tiny", train, {"test": train})
    assert all(part in str(error.value) for part in parts), error.value


def test_splits_of_different_kinds_are_refused():
    with pytest.raises(UsageError, match="train is for joint and test for classification"):
        build("tiny", TRAIN, {"test": replace(TEST, tags=None)})
    with pytest.raises(UsageError, match="only one of train and dev has a second text"):
        build("tiny", TRAIN, {"test": TEST, "dev": replace(TEST, pairs=["x", "y", "z"])})
    with pytest.raises(UsageError, match="the test split has no labels"):
        build("tiny", TRAIN, {"test": replace(TEST, tags=None, labels=None)})
    with pytest.raises(UsageError, match="nothing labelled"):
        build("tiny", TRAIN, {})


@pytest.mark.parametrize(
    ("labels", "kind", "names", "metric"),
    [
        (["10", "9", "9"], "classification", ["9", "10"], "accuracy"),
        ([("b", "a"), (), ("a",)], "multi-label", ["a", "b"], "micro_f1"),
        ([0.5, 2.0, -1.0], "regression", None, "pearson"),
        (None, "tokens", None, "span_f1"),
    ],
)
def test_the_kind_follows_from_the_labels(labels, kind, names, metric):
    split = Split(["a", "b", "c"], labels, [["O"], ["B-x"], ["O"]] if kind == "tokens" else None)
    data = build("tiny", split, {"validation_matched": split, "validation_mismatched": split})
    assert (data.kind, data.label_names, data.metrics[0]) == (kind, names, metric)
    assert data.reported == ("validation_matched", "validation_mismatched")
    assert data.positive == ("10" if kind == "classification" else "b" if names else None)


@pytest.mark.parametrize("label", [float("nan"), float("inf"), "text"])
def test_labels_that_are_no_numbers_are_refused_in_a_regression(label):
    with pytest.raises(UsageError, match="train, example 2: the label"):
        build("tiny", Split(["a", "b"], [1.0, label]), {"test": Split(["a"], [1.0])})


def test_limit_keeps_order_and_test():
    train = Split([f"t{i}" for i in range(50)], ["a"] * 50, None)
    data = build("tiny", train, {"test": train})
    small = limit(data, 10, seed=3)
    assert len(small.train) == 10 and len(small.test) == 50
    assert small.train.texts == sorted(small.train.texts, key=lambda text: int(text[1:]))
    assert small.train.texts == limit(data, 10, seed=3).train.texts
    assert small.train.texts != limit(data, 10, seed=4).train.texts
    assert small.train.rows == [int(text[1:]) for text in small.train.texts]
    assert len(limit_held_out(data, 7).test) == 7 and len(limit_held_out(data, 7).train) == 50
    assert limit(data, 50) is data
    with pytest.raises(UsageError, match="n_train=0"):
        limit(data, 0)
