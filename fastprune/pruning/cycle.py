"""The start of a cycle: its examples are chosen and checked, and the choice is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fastprune.platform.collectives import broadcast, world
from fastprune.pruning.by_length import choose_in_groups
from fastprune.pruning.history import History
from fastprune.pruning.method import Method
from fastprune.pruning.schedule import Phase
from fastprune.selection import Selection, random


@dataclass
class CycleRecord:
    """What the newest selection did.

    Attributes:
        epoch: the user epoch with which the cycle begins.
        kept: how many examples were kept, 0 before the first selection.
        threshold: the smallest score kept.  NaN if the method reads no score or several.
        churn: the share of the kept examples that were not kept before.
        score_seconds: how long the scoring pass took.
        select_seconds: how long the selection took.
        facts: what the method decided by, see `Method.facts`.
    """

    epoch: int = 0
    kept: int = 0
    threshold: float = float("nan")
    churn: float = 0.0
    score_seconds: float = 0.0
    select_seconds: float = 0.0
    facts: Mapping[str, float] = field(default_factory=dict)


def choose(
    method: Method, history: History, phase: Phase, seed: int, groups: Sequence[Tensor] | None = None
) -> Selection:
    """Choose the examples of ``phase``.  A collective call.  All processes get the same result.

    A phase on all examples gets all of them.  Before the first training step the subset is drawn at random.

    Args:
        method: chooses.
        history: of all examples.
        phase: says how many to keep.
        seed: of random selections.
        groups: of which each gives its share, see `by_length`.  None lets the method choose among all.

    Returns:
        The selection, on the CPU.

    Raises:
        RuntimeError: the method ranks by scores, and has seen none.
        ValueError: a score is NaN, or the method breaks its contract.  It must keep the number of examples that was
            asked for, and set ``weighted`` if it returns weights.
    """
    n = history.n
    if phase.size == n:
        return Selection(torch.arange(n, device="cpu"))
    at_random = bool(method.reads) and history.empty
    if at_random and phase.first_epoch > 0:
        raise RuntimeError(
            f"method {method.name!r} has seen no score when epoch {phase.first_epoch} starts: call "
            "pruner.observe(index, scores) in the training step"
        )
    history.refuse_nan()

    def select(chooser: Method, known: History, k: int) -> Selection:
        if at_random:
            return random(known.n, k, seed=seed, round=phase.index)
        return chooser.select(known, k, cycle=phase.index, epoch=phase.first_epoch, seed=seed)

    with torch.device("cpu"):  # whatever the default device
        if groups is None:
            selection = select(method, history, phase.size).to("cpu")
        else:
            selection = choose_in_groups(
                groups,
                phase.size,
                lambda group, k: select(method.of_part(group), history.part(group), k),
                seed=seed,
                cycle=0 if method.constant else phase.index,
            )
    if at_random:
        return selection
    if len(selection) != phase.size:
        raise ValueError(f"method {method.name!r} selected {len(selection)} examples where {phase.size} were asked for")
    if selection.weights is not None and not method.weighted:
        raise ValueError(f"method {method.name!r} returned weights without saying so: set weighted = True in its class")
    if world()[1] > 1:
        # All ranks hold the same history.  Their processors may still round differently.
        weights = selection.weights
        selection = Selection(broadcast(selection.indices), None if weights is None else broadcast(weights))
    return selection


def threshold(method: Method, history: History, selection: Selection) -> float:
    """The smallest score kept, or NaN if the method reads no score or several."""
    if len(method.reads) != 1 or history.empty:
        return float("nan")
    value = history.value(method.reads[0])
    return float(value[selection.indices.to(value.device)].min())


def facts(method: Method, history: History, phase: Phase) -> Mapping[str, float]:
    """What the method decides by.  There is nothing before the first score, or where every example is kept.

    Values have six digits, because processors may differ in the last bits.
    """
    if history.empty or phase.size == history.n:
        return {}
    return {name: float(f"{float(value):.6g}") for name, value in method.facts(history).items()}


def churn(before: Tensor | None, after: Tensor, n: int) -> float:
    """The share of the kept set that was not in the kept set before.  None means all examples."""
    if before is None:
        return 0.0
    was = torch.zeros(n, dtype=torch.bool, device="cpu")
    was[before] = True
    return 1.0 - float(was[after].float().mean())
