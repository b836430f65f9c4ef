"""The leads of every way to train over `full`, `rs2` and `short full`, for each length of training, in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from benchmarks.evidence.compare import noise_name, share_of_seconds, shows_test, threads_name
from benchmarks.evidence.equal_cost import COSTS, leads_at_equal_cost
from benchmarks.evidence.paired import FULL, SHORT, Lead, Way, by_data, leads, mean_lead
from benchmarks.evidence.ranks import mean_ranks
from benchmarks.evidence.results import current
from benchmarks.evidence.spec import run_of

Line = Mapping[str, Any]
Calibrations = Mapping[str, Mapping[str, Any]]


class Regime(NamedTuple):
    """What the lines of one summary share. Data sets, seeds, learning rates and machine kinds differ."""

    epochs: int
    schedule: str
    layers: tuple[int, ...]
    noise: float
    threads: int
    precision: str

    @property
    def title(self) -> str:
        """In words."""
        return (
            f"{self.epochs} epochs, {self.schedule} learning rate, {len(self.layers)} layers{noise_name(self.noise)} "
            f"({threads_name(self.threads)}, {self.precision})"
        )


def regimes(lines: Iterable[Line]) -> dict[Regime, list[Line]]:
    """The lines of each regime. Lines of an older rule or loop, and lines of tuning, are left out.

    Runs of one data set and seed are compared within one machine kind only. Where several kinds made them, those of the
    kind that made the most are kept, and a kind without `full` counts as none.
    """
    found: dict[Regime, list[Line]] = {}
    for line in lines:
        if line["arguments"]["split"] == "test" and current(line):
            run = run_of(line["arguments"])
            place = line["machine"]
            regime = Regime(run.epochs, run.schedule, run.layers, run.noise, place["threads"], place["precision"])
            found.setdefault(regime, []).append(line)
    return {regime: _one_kind_a_group(own) for regime, own in sorted(found.items())}


def _one_kind_a_group(lines: Sequence[Line]) -> list[Line]:
    """The lines without those of a group's rarer machine kinds."""
    full = {(line["group"], line["machine"]["kind"]) for line in lines if line["label"] == FULL}
    places = [(line["group"], line["machine"]["kind"]) for line in lines]
    made = {place: count if place in full else 0 for place, count in Counter(places).items()}
    kind_of = {group: kind for (group, kind), _ in sorted(made.items(), key=lambda item: (item[1], item[0]))}
    return [line for line in lines if line["machine"]["kind"] == kind_of[line["group"]]]


def ways_by_budget(lines: Iterable[Line]) -> dict[float, list[Way]]:
    """Every way that has a budget, by its budget, the largest first."""
    found = {Way(line["label"], line["arguments"]["budget"]) for line in lines}
    budgets = sorted({way.budget for way in found if way.budget is not None}, reverse=True)
    return {budget: sorted(way for way in found if way.budget == budget) for budget in budgets}


def baselines(budget: float) -> dict[str, Way]:
    """What a way at this budget is compared with, by its name in tables."""
    return {FULL: Way(FULL), SHORT: Way(SHORT, budget), "rs2": Way("rs2", budget)}


def summary(lines: Iterable[Line], calibrations: Calibrations, figure: str = "figure") -> str:
    """A table for each regime and budget.

    Args:
        lines: Of any regimes.
        calibrations: By machine kind. Without one there is no time.
        figure: "figure" is that of the test split, "validation" that of the validation split.
    """
    parts: list[str] = []
    shown = [line for line in lines if figure == "validation" or shows_test(line)]
    for regime, own in regimes(shown).items():
        for budget, ways in ways_by_budget(own).items():
            rows = list(_rows(own, budget, ways, calibrations, figure))
            if rows:
                parts.append(f"### {regime.title}, budget {budget:g}\n")
                parts += [_HEAD, *rows, ""]
    return "\n".join(parts)


COLUMNS = (
    "run",
    "time %",
    "lead over full",
    "over short full",
    "at its tokens",
    "at its time",
    "over rs2",
    "rank",
    "data sets",
    "seeds",
    "each data set, over full",
)
_HEAD = f"| {' | '.join(COLUMNS)} |\n|---|{'--:|' * (len(COLUMNS) - 2)}---|"


def _rows(
    lines: Sequence[Line], budget: float, ways: Sequence[Way], calibrations: Calibrations, figure: str
) -> Iterator[str]:
    ranks = mean_ranks(lines, ways, figure)
    for way in ways:
        over = {name: leads(lines, way, other, figure) for name, other in baselines(budget).items() if other != way}
        if not over["full"]:
            continue
        shares = [share for share in seconds_shares(lines, way, calibrations).values() if share is not None]
        cells = [way.label, f"{100 * fmean(shares):.0f}" if shares else ""]
        cells += [_mean(over.get(name, {})) for name in (FULL, SHORT)]
        cells += [_at_equal_cost(lines, way, calibrations, cost, figure) for cost in COSTS]
        cells += [_mean(over.get("rs2", {})), f"{ranks[way]:.1f}" if way in ranks else ""]
        cells += [str(len(over["full"])), str(min(one.seeds for one in over["full"].values()))]
        cells.append(", ".join(f"{data} {one.points:+.1f}" for data, one in over["full"].items()))
        yield f"| {' | '.join(cells)} |"


def _at_equal_cost(lines: Sequence[Line], way: Way, calibrations: Calibrations, cost: str, figure: str) -> str:
    """The mean lead over a shorter full run of the same cost.  It is of the test split alone."""
    found = leads_at_equal_cost(lines, way, calibrations, cost) if figure == "figure" and way.label != SHORT else {}
    return f"{fmean(found.values()):+.2f}" if found else ""


def _mean(found: Mapping[str, Lead]) -> str:
    """The mean over data sets, with its 95 % interval."""
    return str(mean_lead(found.values())) if found else ""


def seconds_shares(lines: Sequence[Line], way: Way, calibrations: Calibrations) -> dict[str, float | None]:
    """The computed time of a way on each data set, as a share of full's of the same seed.

    It is the mean over the seeds that a calibrated machine made, and None if there are none.
    """
    full = {line["group"]: line for line in lines if line["label"] == FULL}
    found: dict[str, float | None] = {}
    for data, own in by_data(lines, way).items():
        bases = ((full[line["group"]], line) for line in own if line["group"] in full)
        shares = [share_of_seconds(base, line, calibrations) for base, line in bases]
        known = [share for share in shares if share is not None]
        found[data] = fmean(known) if known else None
    return found
