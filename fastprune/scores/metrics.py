"""The metrics of an example, one row of a table each: which end is hard, how tokens become one number, what it needs.

Everything that asks for a fact about a metric reads `TABLE`: scores, tasks, methods, score files and the command line.
The order of the kernels' rows is that of `Metric` in csrc/scores/row_scores.h.

A metric that PyTorch computes is one row with ``compute``, and so is one that follows from others::

    TABLE["gini"] = Metric("gini", "large", compute=lambda given: 1 - given.logits.softmax(-1).square().sum(-1))
    TABLE["doubt"] = Metric("doubt", "large", needs=("confidence",), compute=lambda g: 1 - g.scores["confidence"])

A metric of the kernels is a row with ``kernel=True``, its definition in definition.py, and one formula a kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import Tensor

HeadKind = Literal["single_label", "multi_label", "regression", "tokens", "causal_lm", "span"]
"""What kind of answer a head gives, see `fastprune.Head`."""

EVERY_KIND: frozenset[str] = frozenset(("single_label", "multi_label", "regression", "tokens", "causal_lm", "span"))
OF_CLASSES: frozenset[str] = frozenset(("single_label", "tokens", "causal_lm", "span"))
"""The heads that choose one class of several."""


class Given(NamedTuple):
    """What the ``compute`` of a metric may read, of one head.

    Attributes:
        logits: (..., C), detached.
        labels: (...) class indices, or targets (..., C).
        ignore_index: rows with this label count nowhere; what is computed of them is not looked at.
        shift: row t answers label t + shift.
        states: the input of the last layer and whether it has a bias, where the metric needs "states".
        scores: the metrics that it needs, by name, of the labels' shape.
    """

    logits: Tensor
    labels: Tensor
    ignore_index: int = -100
    shift: int = 0
    states: tuple[Tensor, bool] | None = None
    scores: Mapping[str, Tensor] = {}


@dataclass(frozen=True)
class Metric:
    """What there is to know of a metric.

    Args:
        name: what it is asked for by, and the name of its column in files.
        hard: the end at which an example has most left to teach; None for a vector, which has no order.
        join: how the numbers of tokens, and of heads, become that of an example.  "loss" is the mean over the tokens
            of one head, and a `JointLoss` for several.  "all" is the smallest: all of them must be right.
        needs: "states", or other metrics that it is computed from.  Logits and labels are always there.
        heads: the kinds of heads that have it.  One that a multi-label head has is also defined for soft labels.
        per: "row": a number for each row of logits; "example": one for the whole example, whatever its tokens;
            "run": one over the epochs of a run, a column of training dynamics.
        kernel: the kernels compute it in their one read of the logits.
        compute: computes it from `Given`; fp32 of the labels' shape per row, (B,) per example.
        discrete: it has few different values, so that ties are common.
        vector: it has a number for each class, (..., C).
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
    from fastprune.scores.grand import grand  # which scores rows, and so reads this table

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
"""In the order of `Metric` in csrc/scores/row_scores.h."""


# --- which end is hard -----------------------------------------------------------------------------------------------


def is_hard_where_small(name: str) -> bool:
    """Whether small values are the hard ones; of a name that no row has, such as ``score``, large ones are."""
    return name in TABLE and TABLE[name].hard == "small"


def hard_where_small() -> list[str]:
    """The names of all metrics whose small values are the hard ones."""
    return [name for name in TABLE if is_hard_where_small(name)]


def difficulty(name: str, values: Any) -> Any:
    """The values of that metric, negated if need be, so that the largest are the hardest; tensors and arrays."""
    return -values if is_hard_where_small(name) else values


# --- which there are -------------------------------------------------------------------------------------------------


def of_rows(kind: str | None = None) -> list[str]:
    """The metrics with one number a row, those that `fastprune.score` gives; of a kind of head those that it has."""
    rows = [row for row in TABLE.values() if row.per == "row" and not row.vector and "states" not in row.needs]
    return [row.name for row in rows if kind is None or kind in row.heads]


def of_examples() -> list[str]:
    """The metrics with one number an example, those that `fastprune.Task` gives and a method can rank by."""
    return [row.name for row in TABLE.values() if row.per != "run" and not row.vector]


def lacking(names: Iterable[str], kinds: Collection[str]) -> list[str]:
    """Those of ``names`` that none of these kinds of heads has; what no row has is a user's own, and not missed."""
    return [name for name in names if name in TABLE and TABLE[name].heads.isdisjoint(kinds)]


def is_vector(name: str) -> bool:
    """Whether it has a number for each class of an example."""
    return name in TABLE and TABLE[name].vector


def is_discrete(name: str) -> bool:
    """Whether it has few different values."""
    return name in TABLE and TABLE[name].discrete


def needs_states(names: Iterable[str]) -> bool:
    """Whether one of them is computed from the input of the last layer."""
    return any(name in TABLE and "states" in TABLE[name].needs for name in names)


# --- what is computed from what --------------------------------------------------------------------------------------


def are_of_kernel(names: Iterable[str]) -> bool:
    """Whether the kernels compute all of them; in a form that torch.compile follows in every version."""
    for name in names:
        if name not in KERNEL_METRICS:
            return False
    return True


def kernel_part(names: Sequence[str]) -> tuple[str, ...]:
    """The kernels' metrics among ``names`` and those that the others are computed from, each once."""
    if are_of_kernel(names):
        return tuple(names)
    found: list[str] = []
    for name in names:
        others = [need for need in TABLE[name].needs if need in TABLE]
        found += [name] if name in KERNEL_METRICS else kernel_part(others)
    return tuple(dict.fromkeys(found))


def completed(names: Sequence[str], given: Given) -> dict[str, Tensor]:
    """All of ``names``, where ``given.scores`` holds those of `kernel_part`; not differentiated."""
    return {name: _value(TABLE[name], given) for name in names}


def _value(row: Metric, given: Given) -> Tensor:
    if row.name in given.scores:
        return given.scores[row.name]
    assert row.compute is not None, row.name
    others = {need: _value(TABLE[need], given) for need in row.needs if need in TABLE}
    return row.compute(given._replace(scores=others))
