"""How good predictions are: pure functions of lists of labels, all values in [0, 1].

A gold label that training never saw cannot be predicted, so it counts as an error.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastprune.errors import UsageError

Tags = Sequence[Sequence[str]]


def intent_accuracy(pred: Sequence[str], gold: Sequence[str]) -> float:
    """Share of examples whose class is right.

    Raises `ValueError` when the lists are empty or differ in length.
    """
    _check_lengths("pred", pred, "gold", gold)
    return sum(p == g for p, g in zip(pred, gold, strict=True)) / len(gold)


def slot_f1(pred: Tags, gold: Tags) -> float:
    """Micro-averaged F1 over entity spans, as seqeval (conlleval) counts them.

    pred, gold: BIO tags per example and word.  A span is right if its type and both borders are; an I-
    without its B- opens a span.  0 when neither list has any span.

    Raises `ValueError` when lengths differ, `UsageError` without the seqeval package.
    """
    try:
        from seqeval.metrics import f1_score
    except ImportError:
        raise UsageError("slot F1 needs the seqeval package: pip install 'fastprune[demo]'.") from None
    _check_tags(pred, gold)
    return float(f1_score([list(tags) for tags in gold], [list(tags) for tags in pred], zero_division=0))


def exact_match(
    pred_intents: Sequence[str],
    gold_intents: Sequence[str],
    pred_slots: Tags | None = None,
    gold_slots: Tags | None = None,
) -> float:
    """Share of examples whose class and every tag are right; without slots, the class alone.

    Raises `ValueError` when the lists are empty, differ in length, or only one side has slots.
    """
    _check_lengths("pred_intents", pred_intents, "gold_intents", gold_intents)
    if (pred_slots is None) != (gold_slots is None):
        raise ValueError("pred_slots and gold_slots: only one of them was given: give both or neither.")
    if pred_slots is None or gold_slots is None:
        return intent_accuracy(pred_intents, gold_intents)
    _check_lengths("pred_slots", pred_slots, "gold_intents", gold_intents)
    _check_tags(pred_slots, gold_slots)
    rows = zip(pred_intents, gold_intents, pred_slots, gold_slots, strict=True)
    return sum(p == g and list(ps) == list(gs) for p, g, ps, gs in rows) / len(gold_intents)


def evaluate_predictions(
    pred_intents: Sequence[str],
    gold_intents: Sequence[str],
    pred_slots: Tags | None = None,
    gold_slots: Tags | None = None,
) -> dict[str, float]:
    """``intent_accuracy``, ``slot_f1`` (only with slots) and ``exact_match`` of one evaluation."""
    result = {"intent_accuracy": intent_accuracy(pred_intents, gold_intents)}
    if pred_slots is not None and gold_slots is not None:
        result["slot_f1"] = slot_f1(pred_slots, gold_slots)
    result["exact_match"] = exact_match(pred_intents, gold_intents, pred_slots, gold_slots)
    return result


def _check_lengths(first: str, a: Sequence, second: str, b: Sequence) -> None:
    if len(a) != len(b):
        raise ValueError(f"{first} has {len(a)} items but {second} has {len(b)}: give one per example.")
    if not len(b):
        raise ValueError(f"{second} is empty: give at least one example.")


def _check_tags(pred: Tags, gold: Tags) -> None:
    _check_lengths("pred slots", pred, "gold slots", gold)
    for i, (p, g) in enumerate(zip(pred, gold, strict=True)):
        if len(p) != len(g):
            raise ValueError(f"pred slots[{i}] has {len(p)} tags but gold has {len(g)}: give one per word.")
