"""What a data set is like beside what choosing by score gained on it, as a table for each length of training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks.evidence.compare import shows_test
from benchmarks.evidence.measures import figure_name
from benchmarks.evidence.paired import FULL, SHORT, Way, by_data, leads
from benchmarks.evidence.properties import NAMES, names_of, shown
from benchmarks.evidence.ranks import rank_correlation
from benchmarks.evidence.summary import regimes, ways_by_budget

Line = Mapping[str, Any]
LEARNED = "after one epoch, % of the end"
CHOSEN = ("auto", "el2n-free")
"""The methods whose gains are shown."""

FEWEST = 8
"""Data sets that a table needs to be shown, because a rank correlation of fewer says nothing."""


def gains(lines: Iterable[Line], of_data: Mapping[str, Mapping[str, float]]) -> str:
    """The tables in Markdown.  Data sets without properties are left out.

    Args:
        lines: Of any regimes.
        of_data: The properties by data set (`properties`).
    """
    parts = []
    for regime, own in regimes(line for line in lines if shows_test(line)).items():
        for budget, ways in ways_by_budget(own).items():
            for way in ways:
                columns = _columns(own, way, of_data) if way.label in CHOSEN else {}
                if columns:
                    parts += [f"### {way.label} at {budget:g}: {regime.title}\n", _table(columns), ""]
    return "\n".join(parts)


def learned_early(lines: Sequence[Line]) -> dict[str, float]:
    """By data set: the figure of `full` after its first epoch over that at its end, the mean over seeds."""
    found = {}
    for data, own in by_data(lines, Way(FULL)).items():
        name = figure_name(data)
        shares = [line["epochs"][0][name] / line["figure"] for line in own if line["figure"] > 0]
        if shares:
            found[data] = fmean(shares)
    return found


def _columns(lines: Sequence[Line], way: Way, of_data: Mapping[str, Mapping[str, float]]) -> dict[str, list[Any]]:
    """By the head of the column, a value for each data set that has everything.  Empty if these are too few."""
    over = {f"lead over {name}": leads(lines, way, Way(name, way.budget)) for name in (SHORT, "rs2")}
    early = learned_early(lines)
    has = set(of_data) & set(early)
    data = sorted(has.intersection(*(set(found) for found in over.values())))
    if len(data) < FEWEST:
        return {}
    names = names_of({one: of_data[one] for one in data})
    columns: dict[str, list[Any]] = {"data set": list(data)}
    columns |= {name: [of_data[one][name] for one in data] for name in names}
    columns[LEARNED] = [early[one] for one in data]
    columns |= {head: [found[one].points for one in data] for head, found in over.items()}
    return columns


def _table(columns: Mapping[str, list[Any]]) -> str:
    heads = list(columns)
    gained = [head for head in heads if head.startswith("lead over")]
    rows = [[_cell(head, columns[head][i]) for head in heads] for i in range(len(columns["data set"]))]
    for gain in gained:
        found = {head: rank_correlation(columns[head], columns[gain]) for head in heads[1:] if head not in gained}
        rows.append([f"*rank correlation with the {gain}*", *map(_signed, found.values()), *[""] * len(gained)])
    names = [NAMES.get(head, head) for head in heads]
    lines = [names, ["---"] + ["--:"] * (len(heads) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(head: str, value: Any) -> str:
    if head == "data set":
        return str(value)
    if head == LEARNED:
        return f"{100 * value:.0f}"
    return f"{value:+.1f}" if head.startswith("lead over") else shown(head, value)


def _signed(value: float) -> str:
    return "" if math.isnan(value) else f"{value:+.2f}"
