"""The goals that were set for a way to train before it was run, and which of them it meets, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks.evidence.compare import shows_test
from benchmarks.evidence.paired import FULL, SHORT, Lead, Way, leads, mean_lead
from benchmarks.evidence.summary import Regime, baselines, regimes, ways_by_budget

Line = Mapping[str, Any]

OVER_FULL = {0.5: -0.3, 0.3: -1.0}
"""The least mean lead over `full`, in points, by budget."""

FAR_BELOW = -1.0
"""On no data set may the whole 90 % interval of the lead over `full` lie below this."""

LOST = -1.0
"""A baseline loses on a data set if its lead over `full` is no larger than this."""

WHERE_BOTH_LOSE = 0.5
"""The least mean lead over both baselines, where both lose."""

CHEAP = (SHORT, "rs2")
"""The ways of the same budget that need no scores."""

COLUMNS = (
    "run",
    "over full",
    f"all of 90 % below {FAR_BELOW:g}",
    *(f"over {name}" for name in CHEAP),
    "below one of them",
    "over both where both lose",
    "data sets",
)


def goals(lines: Iterable[Line]) -> str:
    """A table for each length of training and budget that has goals, in which a run is compared with both baselines.

    Args:
        lines: Of any regimes.
    """
    parts: list[str] = []
    for regime, own in regimes(line for line in lines if shows_test(line)).items():
        for budget, ways in ways_by_budget(own).items():
            rows = [_row(own, way) for way in ways if way.label not in CHEAP] if budget in OVER_FULL else []
            parts += _table(regime, budget, [row for row in rows if row])
    return "\n".join(parts)


def _table(regime: Regime, budget: float, rows: Sequence[str]) -> list[str]:
    if not rows:
        return []
    head = f"| {' | '.join(COLUMNS)} |\n|---|{'--:|' * (len(COLUMNS) - 1)}"
    return [f"### {regime.title}, budget {budget:g}, goal {OVER_FULL[budget]:g} over full\n", head, *rows, ""]


def _row(lines: Sequence[Line], way: Way) -> str:
    """The row of a way, on the data sets that it and both baselines have.  Empty without any."""
    assert way.budget is not None
    others = baselines(way.budget)
    over = {name: leads(lines, way, other) for name, other in others.items()}
    data = sorted(set.intersection(*(set(found) for found in over.values())))
    if not data:
        return ""
    over = {name: {one: found[one] for one in data} for name, found in over.items()}
    lost = [leads(lines, others[name], others[FULL]) for name in CHEAP]
    both_lose = [one for one in data if all(found[one].points <= LOST for found in lost if one in found)]
    far = [one for one, lead in over[FULL].items() if lead.below(FAR_BELOW, 0.9)]
    below = [one for one in data if any(over[name][one].below(0.0) for name in CHEAP)]
    cells = [way.label, judged(over[FULL], OVER_FULL[way.budget]), _named(far)]
    cells += [judged(over[name], 0.0) for name in CHEAP]
    cells += [_named(below), _where_both_lose(over, both_lose), str(len(data))]
    return f"| {' | '.join(cells)} |"


def judged(found: Mapping[str, Lead], least: float) -> str:
    """The mean over data sets with its 95 % interval, in bold if it does not reach ``least``."""
    mean = mean_lead(found.values())
    return _bold_if(mean.points < least, str(mean))


def _where_both_lose(over: Mapping[str, Mapping[str, Lead]], data: Sequence[str]) -> str:
    if not data:
        return "none"
    mean = fmean(over[name][one].points for name in CHEAP for one in data)
    return _bold_if(mean < WHERE_BOTH_LOSE, f"{mean:+.2f} ({', '.join(data)})")


def _named(data: Sequence[str]) -> str:
    return _bold_if(bool(data), ", ".join(data) or "none")


def _bold_if(missed: bool, text: str) -> str:
    return f"**{text}**" if missed else text
