"""Makes the selection that the options of ``fastprune select`` ask for."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastprune.errors import UsageError
from fastprune.files.score_files import pick
from fastprune.methods.unscored import fitting_offset
from fastprune.pruning import check_fraction
from fastprune.selection import (
    Selection,
    class_balanced,
    easiest,
    hardest,
    probabilistic,
    random,
    stratified,
    threshold_random,
    window,
)
from fastprune.selection.by_chance import below_mean
from fastprune.selection.by_group import Quota
from fastprune.selection.by_rank import count_dropped

STRATEGIES = (
    "hardest",
    "easiest",
    "window",
    "stratified",
    "class-balanced",
    "probabilistic",
    "random",
    "threshold-random",
)

QUOTAS: tuple[Quota, ...] = ("proportional", "equal", "sqrt")

BY_RANK = ("hardest", "easiest", "window")

WITH_OFFSET = ("window", "stratified", "class-balanced")


def selection_of(
    arguments: argparse.Namespace, scores: Tensor, columns: Mapping[str, np.ndarray], where: str
) -> Selection:
    """Return the selection that the options ask for.

    Args:
        arguments: the options.
        scores: (n,), larger where an example is harder.
        columns: all columns of the file of scores.
        where: the file, for messages.

    Raises:
        UsageError: options do not go together.
        ValueError: see the strategies in `fastprune.selection`.
    """
    strategy, seed, n = arguments.strategy, arguments.seed, len(scores)
    k = max(1, round(check_fraction(arguments.keep_fraction, "--keep-fraction") * n))
    if arguments.offset and strategy not in WITH_OFFSET:
        raise UsageError(f"--offset goes with --strategy {', '.join(WITH_OFFSET)}, not with {strategy}")
    if (arguments.labels is None) == (strategy == "class-balanced"):
        raise UsageError("--labels COLUMN and --strategy class-balanced go together; give both or neither")
    if arguments.quota is not None and strategy != "class-balanced":
        raise UsageError(f"--quota goes with --strategy class-balanced, not with {strategy}")
    if arguments.power is not None and strategy != "probabilistic":
        raise UsageError(f"--power goes with --strategy probabilistic, not with {strategy}")
    if arguments.weighted and strategy != "probabilistic":
        raise UsageError(f"--weighted goes with --strategy probabilistic, not with {strategy}")
    ties: dict[str, Any] = {"ties": arguments.ties, "seed": seed}
    if strategy == "class-balanced":
        labels = np.unique(pick(columns, arguments.labels, where).astype(str), return_inverse=True)[1]
        if k > n - count_dropped(n, arguments.offset):
            raise UsageError(
                f"--offset {arguments.offset:g} and --keep-fraction {arguments.keep_fraction:g} exceed 1 together; "
                "lower one of them"
            )
        inner = _fitting_window(arguments.offset, **ties)
        quota: Quota = arguments.quota or "proportional"
        return class_balanced(scores, torch.from_numpy(labels), k, quota=quota, inner=inner)
    if strategy == "window":
        return window(scores, k, arguments.offset, **ties)
    if strategy == "stratified":
        return stratified(scores, k, seed, 0, offset=arguments.offset, ties=arguments.ties)
    if strategy == "probabilistic":
        power = 1.0 if arguments.power is None else arguments.power
        return probabilistic(scores, k, seed, 0, power=power, weighted=arguments.weighted)
    if strategy == "random":
        return random(n, k, seed, 0)
    if strategy == "threshold-random":
        return _threshold_random(scores, k, seed)
    return easiest(scores, k, **ties) if strategy == "easiest" else hardest(scores, k, **ties)


def _fitting_window(offset: float, **ties: Any) -> Callable[[Tensor, int], Selection]:
    # If nearly all examples of a class are kept, its hardest cannot be dropped.
    return lambda scores, k: window(scores, k, fitting_offset(offset, len(scores), k), **ties)


def _threshold_random(scores: Tensor, k: int, seed: int) -> Selection:
    """Apply InfoBatch's rule, dropping the share below the mean that leaves k examples."""
    below, dropped = int(below_mean(scores).sum()), len(scores) - k
    if dropped >= below > 0 or dropped > below:
        raise UsageError(
            f"threshold-random drops some of the {below} examples below the mean score, so it cannot drop {dropped} of "
            f"{len(scores)}; raise --keep-fraction above {1 - below / len(scores):.4g}"
        )
    return threshold_random(scores, dropped / max(1, below), seed, 0)
