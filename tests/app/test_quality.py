"""The metrics of every task against their definitions, written out."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastprune.app.measures import MEASURES
from fastprune.app.quality import (
    OF_KIND,
    ON_REQUEST,
    deciding_first,
    evaluate,
    measures_of,
    per_class,
    per_span_type,
)
from fastprune.errors import UsageError

CLASSES = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=30)


def f1_of(right, predicted, true):
    """2 · right / (predicted + true), 0 where nothing is either."""
    return 2 * right / (predicted + true) if predicted + true else 0.0


def counts(name, predicted, gold):
    """(right, predicted, true) of one class."""
    has = [(name in p, name in g) for p, g in zip(predicted, gold, strict=True)]
    return sum(p and g for p, g in has), sum(p for p, _ in has), sum(g for _, g in has)


@settings(deadline=None, max_examples=60)
@given(CLASSES)
def test_one_class(pairs):
    predicted, gold = [p for p, _ in pairs], [g for _, g in pairs]
    found = evaluate(("accuracy", "f1", "macro_f1", "matthews"), labels=(predicted, gold), positive="b")
    assert found["accuracy"] == pytest.approx(np.mean([p == g for p, g in pairs]))
    assert found["f1"] == pytest.approx(f1_of(*counts("b", predicted, gold)))
    names = sorted({*predicted, *gold})
    assert found["macro_f1"] == pytest.approx(np.mean([f1_of(*counts(name, predicted, gold)) for name in names]))
    # Matthews' correlation is Pearson's of the indicators, summed over the classes.
    x = np.array([[p == name for name in names] for p in predicted], dtype=float)
    y = np.array([[g == name for name in names] for g in gold], dtype=float)
    x, y = x - x.mean(0), y - y.mean(0)
    scale = math.sqrt((x * x).sum() * (y * y).sum())
    assert found["matthews"] == pytest.approx((x * y).sum() / scale if scale else 0.0, abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sets(st.sampled_from("abc")), st.sets(st.sampled_from("abc"))), min_size=1, max_size=20))
def test_several_classes(pairs):
    predicted, gold = ([tuple(sorted(side)) for side in sides] for sides in zip(*pairs, strict=True))
    found = evaluate(measures_of("multi-label"), labels=(predicted, gold))
    names = sorted({name for label in (*predicted, *gold) for name in label})
    each = [counts(name, predicted, gold) for name in names]
    assert found["micro_f1"] == pytest.approx(f1_of(*map(sum, zip(*each, strict=True))) if each else 0.0)
    assert found["exact_match"] == pytest.approx(np.mean([p == g for p, g in zip(predicted, gold, strict=True)]))
    if names:
        assert found["macro_f1"] == pytest.approx(np.mean([f1_of(*one) for one in each]))
        table = per_class(predicted, gold)
        assert [table[name]["support"] for name in names] == [true for _, _, true in each]


def test_numbers():
    rng = random.Random(0)
    gold = [rng.gauss(0, 1) for _ in range(50)]
    predicted = [3 * value + rng.gauss(0, 1) for value in gold]
    found = evaluate(measures_of("regression"), labels=(predicted, gold))
    assert found["pearson"] == pytest.approx(np.corrcoef(predicted, gold)[0, 1])
    ranks = [np.argsort(np.argsort(values)) for values in (predicted, gold)]
    assert found["spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    # A model that says the same of everything has no correlation, and a table needs a number.
    assert evaluate(measures_of("regression"), labels=([1.0] * 50, gold)) == {"pearson": 0.0, "spearman": 0.0}


def test_tags():
    gold = [["B-x", "I-x", "O"], ["O", "B-y"]]
    predicted = [["B-x", "I-x", "O"], ["B-y", "B-y"]]
    found = evaluate(measures_of("tokens"), tags=(predicted, gold))
    assert found == {"span_f1": pytest.approx(f1_of(2, 3, 2)), "tag_accuracy": 0.8, "exact_match": 0.5}
    # An I- without its B- opens a span, as conlleval has it; a border that is off is a wrong span.
    assert evaluate(("span_f1",), tags=([["I-x", "I-x"]], [["B-x", "I-x"]]))["span_f1"] == 1.0
    assert evaluate(("span_f1",), tags=([["B-x", "O"]], [["B-x", "I-x"]]))["span_f1"] == 0.0
    assert evaluate(("span_f1",), tags=([["O"]], [["O"]]))["span_f1"] == 0.0
    assert per_span_type(predicted, gold)["y"] == {
        "precision": 0.5,
        "recall": 1.0,
        "f1": f1_of(1, 2, 1),
        "support": 1.0,
    }


def test_joint_needs_both():
    labels, tags = (["a", "a"], ["a", "a"]), ([["O"], ["B-x"]], [["O"], ["O"]])
    found = evaluate(measures_of("joint"), labels=labels, tags=tags)
    assert found == {"exact_match": 0.5, "intent_accuracy": 1.0, "slot_f1": 0.0}


def test_a_label_that_training_never_saw_counts_as_an_error():
    assert evaluate(("accuracy", "matthews"), labels=(["a", "b"], ["a", "new"]))["accuracy"] == 0.5


def test_names():
    known = (*OF_KIND.values(), *ON_REQUEST.values())
    assert {name for names in known for name in names} | {"f1"} == MEASURES.keys()
    assert deciding_first(("accuracy", "f1"), "f1") == ("f1", "accuracy")
    with pytest.raises(UsageError, match="--metric pearson is none of this task's; choose accuracy"):
        deciding_first(("accuracy",), "pearson")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"labels": (["a"], ["a", "b"])}, "1 predictions but 2 true"),
        ({"labels": ([], [])}, "nothing to compare"),
        ({"tags": ([["O"]], [["O", "O"]])}, "1 tags are predicted for 2 words"),
        ({}, "labels and tags are both None"),
        ({"tags": ([["O"]], [["O"]])}, "accuracy needs labels or tags"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, why):
    with pytest.raises(ValueError, match=why):
        evaluate(("accuracy",), **arguments)
