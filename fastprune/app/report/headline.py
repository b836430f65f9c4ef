"""Says in sentences what a summary holds: what was saved and lost, and how to read the tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fastprune.app.measures import measure_of
from fastprune.app.report.summary import BASELINE

MOST_SENTENCES = 3
MOST_LISTED = 4
_SURNAMES = {"matthews", "pearson", "spearman"}
_NAME = re.compile(r"(.+) ((?:0?\.)?\d[\d.]*|(?:linear|cosine|budget):\S+)")
"""How a run of a comparison is named: the method, and the share it keeps."""


def spoken(measure: str | None) -> str:
    """What a sentence calls a quality measure.

    >>> spoken("exact_match"), spoken("macro_f1"), spoken("matthews")
    ('exact match', 'macro F1', 'Matthews correlation')
    """
    if measure in _SURNAMES:
        return f"{measure.capitalize()} correlation"
    return (measure or "nothing").replace("_", " ").replace("f1", "F1")


def headline(summary: Mapping[str, Any]) -> list[str]:
    """What came out, best run first, in at most three sentences.

    Differences are taken seed by seed from the run on all data, so ± is the deviation of the difference.
    """
    rows = summary["rows"]
    compared = [row for row in rows if row.get("time_saved") is not None or row.get("gain") is not None]
    # A random choice is a yardstick, as is a shorter run on all data: they speak only where nothing else does.
    methods = [row for row in compared if row["method"] not in ("random", BASELINE)] or compared
    if methods:
        best = sorted(methods, key=lambda row: (-_number(row.get("gain")), -_number(row.get("time_saved"))))
        return [_compared(row) for row in best[:MOST_SENTENCES]]
    there = [row for row in rows if row.get(row.get("deciding")) is not None]
    if not there:
        return []
    row = max(there, key=lambda row: measure_of(row["deciding"]).sign * row[row["deciding"]])
    alone = all(row["run"].rpartition(": ")[2] == BASELINE for row in rows)
    first = [] if alone else ["There is no run on all data to compare with."]
    name, measure = row["deciding"], measure_of(row["deciding"])
    value = f"{measure.number(row[name])}{_plus_minus(row.get(f'{name}_std'), name)}{measure.unit}"
    what = f"{value} {spoken(name)}" if measure.percent else f"a {spoken(name)} of {value}"
    return [*first, f"{_called(row['run'])} reached {what} ({_seeds(row['n_seeds'])})."]


def notes(summary: Mapping[str, Any]) -> list[str]:
    """How to read the tables: what decides, which epoch is shown, and which run ``model/`` holds.

    Of several folders, what does not hold for all names its folder.
    """
    folders = summary.get("folders") or {"": summary}
    said = {name: _notes(folder) for name, folder in folders.items()}
    everywhere = [line for line in next(iter(said.values())) if all(line in lines for lines in said.values())]
    own = [f"In {name}: {line}" for name, lines in said.items() for line in lines if line not in everywhere]
    counts = {row["n_seeds"] for row in summary["rows"]}
    over = f"{max(counts)} seeds" if len(counts) == 1 else "the seeds"
    return [*everywhere, *own, *([f"± is the standard deviation over {over}."] if max(counts) > 1 else [])]


def _notes(summary: Mapping[str, Any]) -> list[str]:
    deciding, chosen = spoken(summary.get("deciding")), summary.get("chosen_on")
    lower = ", and lower is better" if measure_of(summary.get("deciding")).lower else ""
    lines = [f"Decides: {deciding} on {summary['split']}{lower}."]
    if chosen:
        lines.append(f"Shown is each run's best epoch by {deciding} on {chosen}.")
    if chosen in (summary["split"], *summary.get("others", ())):
        lines.append(f"The epochs were chosen on {chosen}, so the figures on {chosen} flatter.")
    if summary.get("unfinished"):
        runs = [f"{run['run']}, seed {run['seed']} (epoch {run['epoch']})" for run in summary["unfinished"]]
        more = f" and {len(runs) - MOST_LISTED} more" if len(runs) > MOST_LISTED else ""
        left = "Not finished, and left out" if summary.get("left_out") else "Not finished"
        lines.append(f"{left}: {'; '.join(runs[:MOST_LISTED])}{more}.")
    held = summary.get("model_run")
    if held:
        lines.append(f"model/ holds {held['run']}, seed {held['seed']}, after epoch {held['epoch']}.")
    return lines


def _compared(row: Mapping[str, Any]) -> str:
    parts = [part for part in (_time(row.get("time_saved")), _quality(row)) if part]
    return f"{_called(row['run'])} {' and '.join(parts)} ({_seeds(row['shared_seeds'])})."


def _time(saved: float | None) -> str:
    if saved is None:
        return ""
    percent = f"{100 * abs(saved):.0f} %"
    if percent == "0 %":
        return "took as long as full"
    return f"saved {percent} of the time" if saved > 0 else f"took {percent} more time"


def _quality(row: Mapping[str, Any]) -> str:
    if row.get("gain") is None:
        return ""
    measure, name, better = measure_of(row["deciding"]), spoken(row["deciding"]), row["gain"] > 0
    points, deviation = measure.number(abs(row["gain"])), _plus_minus(row.get("gain_std"), row["deciding"])
    unit = " points" if measure.percent else ""
    if float(points) == 0:
        return f"kept the {name}" + (f" ({points}{deviation}{unit})" if deviation else "")
    if measure.lower:
        return f"{'lowered' if better else 'raised'} the {name} by {points}{deviation}"
    return f"{'gained' if better else 'lost'} {points}{deviation}{unit} of {name}"


def _plus_minus(deviation: float | None, measure: str | None) -> str:
    return "" if deviation is None else f" ± {measure_of(measure).number(deviation)}"


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"


def _called(run: str) -> str:
    """Return the run as a sentence calls it: ``el2n 0.5`` is el2n at 0.5."""
    parts = _NAME.fullmatch(run)
    return f"{parts[1]} at {parts[2]}" if parts else run


def _number(value: float | None) -> float:
    return float("-inf") if value is None else value
