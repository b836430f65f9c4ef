"""How good predictions are: which quality measures a task has, and what each of them is.

A quality measure judges the predictions of a model for a whole split, such as its accuracy.  It is no metric of
`fastprune.scores`, which is a number of one example.  In files and options a list of quality measures is called
``metrics``, and the one that decides is called ``metric``, as users know them.

All are computed by scikit-learn, scipy and seqeval.  Values are shares in [0, 1] or correlations in [-1, 1].  A measure
that is not defined, such as the correlation of constant predictions, is 0.  Those of language models are computed in
`fastprune.app.finetune.lm`.

A gold label that training never saw cannot be predicted, so it counts as an error.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastprune.errors import UsageError

if TYPE_CHECKING:
    from fastprune.app.data.types import Kind, Label

Tags = Sequence[Sequence[str]]

OF_KIND: Mapping[Kind, tuple[str, ...]] = {
    "classification": ("accuracy", "macro_f1", "matthews"),
    "multi-label": ("micro_f1", "macro_f1", "exact_match"),
    "regression": ("pearson", "spearman"),
    "tokens": ("span_f1", "tag_accuracy", "exact_match"),
    "joint": ("exact_match", "intent_accuracy", "slot_f1"),
    "causal-lm": ("loss", "perplexity"),
}
ON_REQUEST: Mapping[Kind, tuple[str, ...]] = {"causal-lm": ("exact_answer",)}
"""Measures that cost more than the others, and are taken only where they decide."""


def measures_of(kind: Kind, n_labels: int = 0) -> tuple[str, ...]:
    """The quality measures of a task, the deciding one first.

    Args:
        kind: what is predicted.
        n_labels: number of classes.  Two classes have an F1, that of `TextData.positive`.

    >>> measures_of("classification", 2)
    ('accuracy', 'f1', 'macro_f1', 'matthews')
    """
    names = OF_KIND[kind]
    return (names[0], "f1", *names[1:]) if kind == "classification" and n_labels == 2 else names


def deciding_first(measures: Sequence[str], deciding: str, more: Sequence[str] = ()) -> tuple[str, ...]:
    """``measures`` with ``deciding`` in front, which may also be one of ``more``.

    Raises:
        UsageError: it is none of them.

    >>> deciding_first(("accuracy", "f1"), "f1")
    ('f1', 'accuracy')
    """
    if deciding not in (*measures, *more):
        raise UsageError(f"--metric {deciding} is none of this task's; choose {', '.join((*measures, *more))}")
    return (deciding, *(name for name in measures if name != deciding))


def evaluate(
    measures: Sequence[str],
    *,
    labels: tuple[Sequence[Label], Sequence[Label]] | None = None,
    tags: tuple[Tags, Tags] | None = None,
    positive: str | None = None,
) -> dict[str, float]:
    """The values of ``measures``, in their order.

    Args:
        measures: their names.
        labels: (predicted, true), one an example.  None without such a label.
        tags: (predicted, true) BIO tags, one a word.  None without tags.
        positive: the class whose F1 is ``f1``.

    Raises:
        ValueError: lists are empty or differ in length, or a measure needs what is not given.
    """
    for both in (labels, tags):
        _check_lengths(both)
    if tags is not None:
        for predicted, gold in zip(*tags, strict=True):
            if len(predicted) != len(gold):
                raise ValueError(f"{len(predicted)} tags are predicted for {len(gold)} words: give one per word.")
    if labels is None and tags is None:
        raise ValueError("labels and tags are both None: give at least one of them.")
    found = {}
    for name in measures:
        if name == "exact_match":
            found[name] = exact_match(labels, tags)
        elif name in ("slot_f1", "span_f1"):
            found[name] = span_f1(*_given(tags, name))
        elif name == "tag_accuracy":
            found[name] = tag_accuracy(*_given(tags, name))
        else:
            found[name] = _OF_LABELS[name](*_given(labels, name), positive)
    return found


def per_class(predicted: Sequence[Label], gold: Sequence[Label]) -> dict[str, dict[str, float]]:
    """Return precision, recall, f1 and support of each class that is true or predicted somewhere, sorted.

    Labels are classes, or tuples of classes.
    """
    names = sorted({name for label in (*predicted, *gold) for name in _as_tuple(label)})
    from sklearn.metrics import precision_recall_fscore_support

    both = (_matrix(gold, names), _matrix(predicted, names))
    table = precision_recall_fscore_support(*both, labels=range(len(names)), zero_division=0)
    keys = ("precision", "recall", "f1", "support")
    return {name: {key: float(table[k][i]) for k, key in enumerate(keys)} for i, name in enumerate(names)}


def per_span_type(predicted: Tags, gold: Tags) -> dict[str, dict[str, float]]:
    """Return the same as `per_class`, for the types of spans."""
    report = _seqeval("classification_report")(_lists(gold), _lists(predicted), output_dict=True, zero_division=0)
    return {
        name: {"precision": float(row["precision"]), "recall": float(row["recall"]), "f1": float(row["f1-score"]),
               "support": float(row["support"])}
        for name, row in sorted(report.items()) if not name.endswith(" avg")
    }  # fmt: skip


def span_f1(predicted: Tags, gold: Tags) -> float:
    """Return the micro-averaged F1 over spans, as seqeval (conlleval) counts them.

    A span is right if its type and both borders are.  An I- without its B- opens a span.  The F1 is 0 when neither list
    has any span.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "no true samples" is the 0 that is documented
        return float(_seqeval("f1_score")(_lists(gold), _lists(predicted), zero_division=0))


def tag_accuracy(predicted: Tags, gold: Tags) -> float:
    """Return the share of words whose tag is right."""
    pairs = [(p, g) for ps, gs in zip(predicted, gold, strict=True) for p, g in zip(ps, gs, strict=True)]
    return sum(p == g for p, g in pairs) / max(1, len(pairs))


def exact_match(labels: tuple[Sequence[Label], Sequence[Label]] | None, tags: tuple[Tags, Tags] | None = None) -> float:
    """Return the share of examples whose label and every tag are right, of what is given."""
    right = [True] * len((labels or tags or ((), ()))[1])
    if labels is not None:
        right = [ok and p == g for ok, p, g in zip(right, *labels, strict=True)]
    if tags is not None:
        right = [ok and list(p) == list(g) for ok, p, g in zip(right, *tags, strict=True)]
    return sum(right) / len(right)


def _accuracy(predicted: Sequence[Label], gold: Sequence[Label], _: str | None) -> float:
    return exact_match((predicted, gold))


def _f1(average: str) -> Callable[..., float]:
    def value(predicted: Sequence[Label], gold: Sequence[Label], positive: str | None) -> float:
        from sklearn.metrics import f1_score

        if average == "binary" and positive is None:
            raise ValueError("f1 is that of one class: give positive.")
        if average == "binary":
            of_it = ([label == positive for label in gold], [label == positive for label in predicted])
            return float(f1_score(*of_it, zero_division=0))
        names = sorted({name for label in (*predicted, *gold) for name in _as_tuple(label)})
        both = (_matrix(gold, names), _matrix(predicted, names))
        return float(f1_score(*both, labels=range(len(names)), average=average, zero_division=0))

    return value


def _matthews(predicted: Sequence[Label], gold: Sequence[Label], _: str | None) -> float:
    from sklearn.metrics import matthews_corrcoef

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one class alone: 0, as documented
        return float(matthews_corrcoef([str(label) for label in gold], [str(label) for label in predicted]))


def _correlation(name: str) -> Callable[..., float]:
    def value(predicted: Sequence[Label], gold: Sequence[Label], _: str | None) -> float:
        import numpy as np
        from scipy import stats

        both = (np.asarray(predicted, dtype=np.float64), np.asarray(gold, dtype=np.float64))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # constant predictions: 0, as documented
            found = float(getattr(stats, name)(*both).statistic) if len(gold) > 1 else 0.0
        return found if found == found else 0.0

    return value


_OF_LABELS: Mapping[str, Callable[..., float]] = {
    "accuracy": _accuracy,
    "intent_accuracy": _accuracy,
    "f1": _f1("binary"),
    "macro_f1": _f1("macro"),
    "micro_f1": _f1("micro"),
    "matthews": _matthews,
    "pearson": _correlation("pearsonr"),
    "spearman": _correlation("spearmanr"),
}


def _matrix(labels: Sequence[Label], names: Sequence[str]) -> Any:
    import numpy as np

    place = {name: i for i, name in enumerate(names)}
    # One column more than there are classes: scikit-learn takes a single column for the two classes 0 and 1.
    matrix = np.zeros((len(labels), len(names) + 1), dtype=np.int8)
    for row, label in enumerate(labels):
        for name in _as_tuple(label):
            if name in place:
                matrix[row, place[name]] = 1
    return matrix


def _as_tuple(label: Label) -> tuple[str, ...]:
    return label if isinstance(label, tuple) else (str(label),)


def _given(both: Any, name: str) -> Any:
    if both is None:
        raise ValueError(f"{name} needs labels or tags that are not given.")
    return both


def _lists(tags: Tags) -> list[list[str]]:
    return [list(row) for row in tags]


def _seqeval(name: str) -> Any:
    try:
        from seqeval import metrics
    except ImportError:
        raise UsageError("the F1 of spans needs the seqeval package: pip install 'fastprune[demo]'.") from None
    return getattr(metrics, name)


def _check_lengths(both: tuple[Sequence[Any], Sequence[Any]] | None) -> None:
    if both is None:
        return
    predicted, gold = both
    if len(predicted) != len(gold):
        raise ValueError(f"{len(predicted)} predictions but {len(gold)} true labels: give one per example.")
    if not len(gold):
        raise ValueError("there is nothing to compare: give at least one example.")
