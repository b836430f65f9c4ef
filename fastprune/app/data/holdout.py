"""Makes a test split of the training examples, where a data set has none."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from fastprune.app.data.types import Label, Split
from fastprune.errors import UsageError

SHARE = 0.1
MOST_HELD_OUT = 2 * SHARE
QUANTILES = 10


def hold_out(split: Split, seed: int, where: str) -> tuple[Split, Split]:
    """Split the examples into (train, test).  About a tenth of each stratum goes to test.

    Strata are the classes, or the tenths of the numbers.  Examples of the same text stay together, so that no test text
    was trained on.  Both splits keep the file's order.

    Raises:
        UsageError: there are too few examples.
    """
    groups: dict[object, list[int]] = defaultdict(list)
    for i, text in enumerate(split.texts):
        groups[(text.casefold(), None if split.pairs is None else split.pairs[i].casefold())].append(i)
    strata: dict[object, list[list[int]]] = defaultdict(list)
    of = _strata(split)
    for members in groups.values():
        strata[of[members[0]]].append(members)
    rng = random.Random(seed)
    # Every stratum in turn, each shuffled, dealt into one line and cut at every tenth: strata smaller than ten still
    # reach the test split in proportion to what they add up to.  The last of each stays in train.
    line: list[list[int]] = []
    for name in sorted(strata, key=repr):
        alike = strata[name]
        rng.shuffle(alike)
        line += alike[:-1]
    step = round(1 / SHARE)
    chosen = line[rng.randrange(min(step, max(len(line), 1))) :: step]
    # A text that is most of the data stays in train.
    while len(chosen) > 1 and _rows(chosen) > MOST_HELD_OUT * len(split):
        chosen.remove(max(chosen, key=len))
    if _rows(chosen) > MOST_HELD_OUT * len(split):
        chosen = [min(line, key=len)]
    test = {i for members in chosen for i in members}
    if not test:
        raise UsageError(f"{where}: too few rows to hold out a test split: give a test file as well.")
    return split.select([i for i in range(len(split)) if i not in test]), split.select(sorted(test))


def _rows(groups: Sequence[Sequence[int]]) -> int:
    return sum(map(len, groups))


def _strata(split: Split) -> Sequence[object]:
    """Return what to divide equally: classes, the tenth of the numbers an example is in, or nothing."""
    if split.labels is None:
        return [None] * len(split)
    if split.kind != "regression":
        return list(split.labels)
    order = sorted(range(len(split)), key=lambda i: (_number(split.labels[i]), i))  # type: ignore[index]
    tenth = [0] * len(split)
    for rank, i in enumerate(order):
        tenth[i] = rank * QUANTILES // len(order)
    return tenth


def _number(label: Label) -> float:
    return label if isinstance(label, float) else 0.0
