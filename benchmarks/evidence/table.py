"""The tables in Markdown, and their pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.evidence.compare import Row, Table, place_name, spread, tables
from benchmarks.evidence.frontier import draw_frontier, points_of
from benchmarks.evidence.gains import gains
from benchmarks.evidence.goals import goals
from benchmarks.evidence.grid import grid
from benchmarks.evidence.properties import read_properties
from benchmarks.evidence.results import read_all
from benchmarks.evidence.summary import summary
from benchmarks.evidence.timemodel import read_calibrations
from fastprune.app.report.curves import BASELINE_COLOUR, COLOURS, MARKERS
from fastprune.files.atomic import write_atomic

NAMES = {
    "exact_match": "exact match %",
    "accuracy": "accuracy %",
    "matthews": "Matthews' correlation × 100",
    "f1": "F1 %",
}
HEAD = """# Evidence

Made by `python -m benchmarks.evidence table` from the result lines beside this file; [the protocol](../../README.md)
says how they came about. A figure is that of a run's last epoch on the test split, as mean ± sample deviation over
seeds. *Against full* is the mean of the differences to the full run of the same seed, in points. *Examples*, *padded
tokens*, *time* and *CPU* are shares of full's: trained examples; tokens computed, padding included, those of a scoring
pass as a third of a trained one; the time computed from the counts and the machine's calibration, scoring and selection
included; CPU seconds, counted beside other work and only a hint.
"""


LEADS = """## How far each run is ahead

A lead is the difference in points to a baseline of the same seed and the same share of the examples: the mean over
seeds, and then over data sets. In brackets is its 95 % interval from a paired bootstrap over seeds, and over test texts
where the lines keep the answers. Both runs of a difference are of one machine kind. Seeds of several kinds are put
together. With few seeds the interval is too narrow. In a simulation of three seeds it held the truth in 92 of 100 cases
for the mean of six data sets, and in 81 for one data set. The data sets are not resampled. Rows differ in the data sets
and seeds that they have, and times are of the seeds whose machine is calibrated.

*Over short full* compares runs with as many examples. *At its tokens* and *at its time* compare with a shorter full run
that reads as many padded tokens, or takes as much computed time. Its figure is taken as linear between the runs of
`short full` and `full`, and up to 3 % of full's cost below the shortest as that of the shortest. *Rank* is the mean
place among the rows of the table, on the data sets that all of them have.
"""


GOALS = """## The goals

These were set before the runs. At a budget of 0.5 the mean lead over `full` is at least -0.3 points, and at 0.3 at
least -1. On no data set does the whole 90 % interval lie below -1. The mean lead over `short full` and over `rs2` is at
least 0, and on no data set is the run significantly below one of them (its 95 % interval). Where both lose a point or
more to `full`, the mean lead over both is at least 0.5. What is in bold misses its goal. With few seeds one interval in
five of a single data set leaves out the truth, so with ten data sets and two baselines some names may be chance.
"""


GAINS = """## What data sets are like, and what was gained

A *spread of lengths* is their deviation over their mean. A text is *near a neighbour* if another training text has
nearly the same words (cosine of at least 0.8, words weighed by their rarity). *After one epoch* is the figure of `full`
after its first epoch as a share of that at its end. The last rows say whether data sets with more of a property gained
more: +1 always, -1 never, 0 no order. With ten data sets less than 0.65 may be chance, with eight less than 0.74, and
so may the largest of many.
"""


def write_table(results: Path) -> list[Path]:
    """Write README.md and a picture for each machine into the results folder. Returns the paths."""
    results.mkdir(parents=True, exist_ok=True)
    calibrations, lines = read_calibrations(results), read_all(results)
    found = tables(lines, calibrations)
    written = []
    parts = [HEAD, LEADS]
    if points := points_of(lines, calibrations):
        picture = results / "frontier.png"
        write_atomic(picture, partial(draw_frontier(points).savefig, format="png", dpi=110))
        written.append(picture)
        parts.append(f"![points lost against time saved]({picture.name})\n")
    parts.append(summary(lines, calibrations))
    if judged := goals(lines):
        parts += [GOALS, judged]
    if gained := gains(lines, read_properties(results)):
        parts += [GAINS, gained]
    for place in dict.fromkeys(table.place for table in found):
        kind, threads, precision = place
        own = [table for table in found if table.place == place]
        picture = results / f"{kind}-{threads}-{precision}.png"
        write_atomic(picture, partial(draw(own).savefig, format="png", dpi=110))
        written.append(picture)
        parts.append(f"## {place_name(place)}\n")
        parts.append(calibration_note(calibrations.get(kind)))
        parts.append(f"![figures against what they cost]({picture.name})\n")
        parts += [markdown(table) for table in own]
    page = results / "README.md"
    write_atomic(page, lambda temporary: temporary.write_text("\n".join(parts), encoding="utf-8"))
    return [page, *written]


def markdown(table: Table) -> str:
    """One table."""
    lines = [
        f"### {table.title}\n",
        f"| run | budget | {NAMES.get(table.metric, table.metric)} | against full | examples % | padded tokens % "
        "| time % | CPU % | seeds |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    return "\n".join(lines + [_markdown_row(row) for row in table.rows]) + "\n"


def _markdown_row(row: Row) -> str:
    budget = "" if row.budget is None else f"{row.budget:g}"
    points = [pair.points for pair in row.pairs]
    shares = [_percent(row.mean(name)) for name in ("examples", "padded", "seconds", "cpu")]
    cells = [row.label, budget, _with_spread(row.figures), _with_spread(points, signed=True), *shares]
    return f"| {' | '.join(cells)} | {len(row.figures)} |"


def _with_spread(values: Sequence[float], *, signed: bool = False) -> str:
    if not values:
        return ""
    deviation = spread(values)
    mean = f"{fmean(values):+.1f}" if signed else f"{fmean(values):.1f}"
    return mean if deviation is None else f"{mean} ± {deviation:.1f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f}"


def calibration_note(calibration: Mapping[str, Any] | None) -> str:
    """How good the computed times are."""
    if calibration is None:
        return "This machine is not calibrated yet, so no time is computed.\n"
    notes = [f"Calibrated {calibration['date'][:10]}."]
    if confirmed := calibration["confirmed"]:
        beside = all("slower" in row for row in confirmed)
        how = ", each by figures measured beside it," if beside else ""
        notes.append(
            f"The computed times of {len(confirmed)} whole runs{how} were off by at most {_worst(confirmed)} %."
        )
        if beside:
            notes.append(
                f"By the calibration's own figures, at the machine's speed of that time, by at most "
                f"{_worst(confirmed, 'error_of_the_file')} %."
            )
    if "first" not in calibration:
        notes.append("The first batch at each width takes longer; this calibration takes it for one like the others.")
    return " ".join(notes) + "\n"


def _worst(confirmed: Sequence[Mapping[str, Any]], name: str = "error") -> str:
    return f"{100 * max(abs(row[name]) for row in confirmed):.1f}"


# --- pictures ------------------------------------------------------------------------------------


def draw(found: Sequence[Table]) -> Any:
    """Small pictures side by side, one for each table: the figure against the share of time, or of padded tokens."""
    figure, axes = grid(len(found), 3, (5.6, 4.2))
    labels = list(dict.fromkeys(row.label for table in found for row in table.rows if row.label != "full"))
    for axis, table in zip(axes, found, strict=True):
        _draw_table(axis, table, labels)
    return figure


def _draw_table(axis: Any, table: Table, labels: Sequence[str]) -> None:
    timed = all(row.mean("seconds") is not None for row in table.rows if row.pairs)
    cost = "seconds" if timed else "padded"
    for full in (row for row in table.rows if row.label == "full"):
        axis.axhline(fmean(full.figures), color=BASELINE_COLOUR, linewidth=1, label="full")
    for i, label in enumerate(labels):
        rows = sorted((r for r in table.rows if r.label == label and r.pairs), key=lambda row: row.mean(cost) or 0.0)
        if rows:
            axis.errorbar(
                [100 * (row.mean(cost) or 0.0) for row in rows],
                [fmean(row.figures) for row in rows],
                yerr=[spread(row.figures) or 0.0 for row in rows],
                label=label,
                color=COLOURS[i % len(COLOURS)],
                marker=MARKERS[i % len(MARKERS)],
                capsize=3,
            )
    axis.set_title(table.title, fontsize=9)
    axis.set_xlabel("time, % of full's" if timed else "padded tokens, % of full's; a scored one as a third")
    axis.set_ylabel(NAMES.get(table.metric, table.metric))
    axis.legend(fontsize=8)
