"""Evaluation metrics against hand-counted cases."""

import sys
import warnings

import pytest

from fastprune.errors import UsageError
from fastprune.finetune.metrics import evaluate_predictions, exact_match, intent_accuracy, slot_f1

pytest.importorskip("seqeval")

GOLD = [["O", "B-city", "I-city"], ["B-day", "O"], ["O"]]
PRED = [["O", "B-city", "O"], ["B-day", "O"], ["O"]]


def test_intent_accuracy():
    assert intent_accuracy(["a", "b", "c", "a"], ["a", "b", "b", "x"]) == 0.5


def test_slot_f1_counts_whole_spans():
    # One of two spans right on both sides: a border off makes the city wrong.
    assert slot_f1(PRED, GOLD) == pytest.approx(0.5)
    assert slot_f1(GOLD, GOLD) == 1.0
    # Two found, one right, one gold: precision 1/2, recall 1.
    assert slot_f1([["B-x", "B-x"]], [["B-x", "O"]]) == pytest.approx(2 / 3)


def test_slot_f1_is_micro_averaged():
    gold = [["B-a"], ["B-a"], ["B-a"], ["B-b"]]
    pred = [["B-a"], ["B-a"], ["B-a"], ["O"]]
    # Micro: P = 1, R = 3/4.  A macro average would give (1 + 0) / 2.
    assert slot_f1(pred, gold) == pytest.approx(6 / 7)


def test_stray_inside_tags_open_a_span_in_silence():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert slot_f1([["O", "I-x"]], [["O", "B-x"]]) == 1.0
        assert slot_f1([["O"]], [["O"]]) == 0.0
        assert slot_f1([["O"]], [["B-x"]]) == 0.0


def test_exact_match_needs_the_intent_and_every_tag():
    assert exact_match(["a", "b", "x"], ["a", "b", "c"], PRED, GOLD) == pytest.approx(1 / 3)
    assert exact_match(["a", "b", "c"], ["a", "b", "c"], PRED, GOLD) == pytest.approx(2 / 3)
    assert exact_match(["a", "b"], ["a", "c"]) == 0.5


def test_evaluate_predictions():
    joint = evaluate_predictions(["a", "b", "x"], ["a", "b", "c"], PRED, GOLD)
    assert joint == pytest.approx({"intent_accuracy": 2 / 3, "slot_f1": 0.5, "exact_match": 1 / 3})
    plain = evaluate_predictions(["a", "b"], ["a", "c"])
    assert plain == {"intent_accuracy": 0.5, "exact_match": 0.5}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: intent_accuracy(["a"], ["a", "b"]), "pred has 1 items but gold has 2"),
        (lambda: intent_accuracy([], []), "gold is empty"),
        (lambda: slot_f1([["O"]], [["O", "O"]]), r"pred slots\[0\] has 1 tags but gold has 2"),
        (lambda: exact_match(["a"], ["a"], [["O"]], None), "only one of them"),
        (lambda: exact_match(["a"], ["a"], [], []), "pred_slots has 0 items"),
        (lambda: evaluate_predictions(["a"], ["a"], [["O"]], None), "only one of them"),
    ],
)
def test_mismatches_raise(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_missing_seqeval_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "seqeval.metrics", None)
    with pytest.raises(UsageError, match=r"seqeval.*pip install 'fastprune\[demo\]'"):
        slot_f1(PRED, GOLD)
