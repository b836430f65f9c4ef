"""The table of metrics. A row says which values are hard, how tokens become one number, and what the metric needs.

All other code reads such facts from `TABLE`: scores, tasks, methods, score files and the command line. The rows of the
kernels are in the order of `Metric` in csrc/scores/row_scores.h.

A metric that PyTorch computes is one row with ``compute``. So is a metric that follows from others. A metric of the
kernels is a row with ``kernel=True``, its definition in definition.py, and one formula in each kernel.

Example:
    >>> import torch
    >>> from fastprune import score
    >>> TABLE["doubt"] = Metric("doubt", "large", needs=("confidence",), compute=lambda g: 1 - g.scores["confidence"])
    >>> TABLE["gini"] = Metric("gini", "large", compute=lambda g: 1 - g.logits.softmax(-1).square().sum(-1))
    >>> score(torch.zeros(2, 4), torch.tensor([0, 1]), ("doubt", "gini"))
    {'doubt': tensor([0.7500, 0.7500]), 'gini': tensor([0.7500, 0.7500])}
    >>> del TABLE["doubt"], TABLE["gini"]
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import Tensor

HeadKind = Literal["single_label", "multi_label", "regression", "tokens", "causal_lm", "span"]
"""The kind of answer that a head gives, see `fastprune.Head`."""

EVERY_KIND: frozenset[str] = frozenset(("single_label", "multi_label", "regression", "tokens", "causal_lm", "span"))
OF_CLASSES: frozenset[str] = frozenset(("single_label", "tokens", "causal_lm", "span"))
"""The heads that choose one class among several."""


class Given(NamedTuple):
    """What the ``compute`` of a metric may read about one head.

    Attributes:
        logits: (..., C), detached.
        labels: (...) class indices, or targets (..., C).
        ignore_index: Rows with this label do not count. What is computed for them is ignored.
        shift: Row t answers label t + shift.
        states: The input of the last layer and whether the layer has a bias, if the metric needs "states".
        scores: The metrics that it needs, by name, of the labels' shape.
    """

    logits: Tensor
    labels: Tensor
    ignore_index: int = -100
    shift: int = 0
    states: tuple[Tensor, bool] | None = None
    scores: Mapping[str, Tensor] = {}


@dataclass(frozen=True)
class Metric:
    """All facts about a metric.

    Args:
        name: The name that users ask for. It also names the column in files.
        hard: Which values are hard, so that the example has most left to teach. None for a vector, which has no order.
        join: How the numbers of tokens, and of heads, become the number of an example. With "norm" and "mean" it is
            that. With "loss" it is the mean over the tokens of one head, and a `JointLoss` for several heads. With
            "all" it is the smallest one, so all of them must be right.
        needs: "states", or the other metrics that it is computed from. Logits and labels are always available.
        heads: The kinds of heads that have the metric. A metric of multi-label heads is also defined for soft labels.
        per: What has one number. With "row" it is each row of logits, and with "example" the whole example, whatever
            its tokens. With "run" it is the example over the epochs of a run, a column of training dynamics.
        kernel: Whether the kernels compute it in their one read of the logits.
        compute: Computes it from `Given`, as fp32. The shape is that of the labels for "row", and (B,) for "example".
        discrete: Whether it has few distinct values, so that ties are common.
        vector: Whether it has a number for each class, (..., C).

    Example:
        >>> gini = Metric("gini", hard="large", compute=lambda given: 1 - given.logits.softmax(-1).square().sum(-1))
        >>> gini.per, gini.join, "tokens" in gini.heads
        ('row', 'mean', True)
    """

    name: str
    hard: Literal["large", "small"] | None
    join: Literal["norm", "mean", "loss", "all"] = "mean"
    needs: tuple[str, ...] = ()
    heads: frozenset[str] = OF_CLASSES
    per: Literal["row", "example", "run"] = "row"
    kernel: bool = False
    compute: Callable[[Given], Tensor] | None = None
    discrete: bool = False
    vector: bool = False


def _last_layer_gradient(given: Given) -> Tensor:
    from fastprune.scores.grand import grand  # not at the top, because grand scores rows and so reads this table

    assert given.states is not None
    features, bias = given.states
    return grand(given.logits, given.labels, features, bias=bias, ignore_index=given.ignore_index, shift=given.shift)


ROWS = (
    Metric("el2n", "large", join="norm", heads=EVERY_KIND, kernel=True),
    Metric("loss", "large", join="loss", heads=EVERY_KIND, kernel=True),
    Metric("confidence", "small", kernel=True),
    Metric("margin", "small", kernel=True),
    Metric("entropy", "large", kernel=True),
    Metric("correct", "small", join="all", kernel=True, discrete=True),
    Metric("grand", "large", join="norm", needs=("states",), per="example", compute=_last_layer_gradient),
    Metric(
        "probabilities",
        None,
        heads=frozenset(("single_label",)),
        vector=True,
        compute=lambda given: given.logits.float().softmax(-1),
    ),
    Metric("variability", "large", needs=("confidence",), per="run"),
    Metric("correctness", "small", needs=("correct",), per="run", discrete=True),
    Metric("forgetting", "large", needs=("correct",), per="run", discrete=True),
    Metric("aum", "small", needs=("margin",), per="run"),
)

TABLE: dict[str, Metric] = {row.name: row for row in ROWS}
"""Every metric by its name."""

KERNEL_METRICS: tuple[str, ...] = tuple(row.name for row in ROWS if row.kernel)
"""The metrics of the kernels, in the order of `Metric` in csrc/scores/row_scores.h."""


# --- which end is hard -----------------------------------------------------------------------------------------------


def is_hard_where_small(name: str) -> bool:
    """Whether small values are hard. For a name that is not in the table, such as ``score``, large values are.

    Example:
        >>> is_hard_where_small("confidence"), is_hard_where_small("loss")
        (True, False)
    """
    return name in TABLE and TABLE[name].hard == "small"


def hard_where_small() -> list[str]:
    """The names of all metrics whose small values are hard.

    Example:
        >>> "margin" in hard_where_small()
        True
    """
    return [name for name in TABLE if is_hard_where_small(name)]


def difficulty(name: str, values: Any) -> Any:
    """The values of the metric, negated if small ones are hard, so that the largest are the hardest.

    It takes tensors and arrays.

    Example:
        >>> import torch
        >>> difficulty("confidence", torch.tensor([0.9, 0.2])).argmax()  # the example with low confidence
        tensor(1)
    """
    return -values if is_hard_where_small(name) else values


# --- which there are -------------------------------------------------------------------------------------------------


def of_rows(kind: str | None = None) -> list[str]:
    """The metrics with one number a row, which `fastprune.score` gives. With ``kind``, those that such a head has.

    Example:
        >>> of_rows("multi_label")
        ['el2n', 'loss']
    """
    rows = [row for row in TABLE.values() if row.per == "row" and not row.vector and "states" not in row.needs]
    return [row.name for row in rows if kind is None or kind in row.heads]


def of_examples() -> list[str]:
    """The metrics with one number an example. `fastprune.Task` gives them, and a method can rank by them.

    Example:
        >>> "grand" in of_examples(), "forgetting" in of_examples()
        (True, False)
    """
    return [row.name for row in TABLE.values() if row.per != "run" and not row.vector]


def lacking(names: Iterable[str], kinds: Collection[str]) -> list[str]:
    """The ``names`` that none of these kinds of heads has.

    A name that no row has is the user's own, and does not count as missing.

    Example:
        >>> lacking(["el2n", "margin", "mine"], ["regression"])
        ['margin']
    """
    return [name for name in names if name in TABLE and TABLE[name].heads.isdisjoint(kinds)]


def is_vector(name: str) -> bool:
    """Whether the metric has a number for each class of an example.

    Example:
        >>> is_vector("probabilities"), is_vector("el2n")
        (True, False)
    """
    return name in TABLE and TABLE[name].vector


def is_discrete(name: str) -> bool:
    """Whether the metric has few distinct values."""
    return name in TABLE and TABLE[name].discrete


def needs_states(names: Iterable[str]) -> bool:
    """Whether one of the metrics is computed from the input of the last layer.

    Example:
        >>> needs_states(["el2n", "grand"]), needs_states(["el2n"])
        (True, False)
    """
    return any(name in TABLE and "states" in TABLE[name].needs for name in names)


# --- what is computed from what --------------------------------------------------------------------------------------


def are_of_kernel(names: Iterable[str]) -> bool:
    """Whether the kernels compute all of the metrics. Every version of torch.compile can follow this code."""
    for name in names:
        if name not in KERNEL_METRICS:
            return False
    return True


def kernel_part(names: Sequence[str]) -> tuple[str, ...]:
    """The kernels' metrics that ``names`` need, each once.

    They are those in ``names``, and those that other metrics in ``names`` are computed from.
    """
    if are_of_kernel(names):
        return tuple(names)
    found: list[str] = []
    for name in names:
        others = [need for need in TABLE[name].needs if need in TABLE]
        found += [name] if name in KERNEL_METRICS else kernel_part(others)
    return tuple(dict.fromkeys(found))


def completed(names: Sequence[str], given: Given) -> dict[str, Tensor]:
    """All of ``names``, not differentiated. ``given.scores`` holds those of `kernel_part`."""
    return {name: _value(TABLE[name], given) for name in names}


def _value(row: Metric, given: Given) -> Tensor:
    if row.name in given.scores:
        return given.scores[row.name]
    assert row.compute is not None, row.name
    others = {need: _value(TABLE[need], given) for need in row.needs if need in TABLE}
    return row.compute(given._replace(scores=others))
