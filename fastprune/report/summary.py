"""From evaluations to one row per run: means and deviations over seeds, and the time saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

Row = dict[str, Any]

QUALITY = ("intent_accuracy", "slot_f1", "exact_match")
SECONDS = ("train_seconds", "score_seconds", "select_seconds", "total_seconds", "cpu_seconds")
BASELINE = "full"


def last_epoch_rows(metrics: Iterable[Mapping[str, Any]], split: str = "test") -> list[Row]:
    """The evaluation of ``split`` at the last epoch of every (run, seed), in order of first appearance."""
    last: dict[tuple[str, int], Mapping[str, Any]] = {}
    for row in metrics:
        key = (row["run"], row["seed"])
        if row.get("split") == split and (key not in last or row["epoch"] >= last[key]["epoch"]):
            last[key] = row
    return [dict(row) for row in last.values()]


def summarise(final_rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """One row per run from its final rows, one per seed; runs keep their order of first appearance.

    A final row is the last line of ``metrics.jsonl`` for that seed, plus what only the driver knows:
    ``method`` (default: the run's name), ``keep_fraction`` (default: ``kept``), ``cpu_seconds`` (default:
    left out).  ``total_seconds`` defaults to ``seconds``.

    Values are means over seeds; ``<quality>_std`` and ``total_seconds_std`` are sample deviations, None
    with one seed.  ``time_saved`` is 1 - total / total of the run named "full", taken per seed and then
    averaged over the seeds both have; None for "full" itself and when they share none.  ``cpu_saved`` is the
    same of CPU seconds, which do not grow when other programs share the machine.
    """
    by_run: dict[str, list[Row]] = {}
    for row in final_rows:
        by_run.setdefault(row["run"], []).append(_with_defaults(row))
    totals, cpu = _by_seed(by_run, "total_seconds"), _by_seed(by_run, "cpu_seconds")
    summary = []
    for run, rows in by_run.items():
        result: Row = {key: rows[0][key] for key in ("run", "method", "keep_fraction")}
        result["seeds"] = sorted(totals[run])
        result["n_seeds"] = len(totals[run])
        for key in (*QUALITY, *SECONDS, "examples_seen"):
            values = [row[key] for row in rows if row.get(key) is not None]
            if values:
                result[key] = fmean(values)
            if values and (key in QUALITY or key == "total_seconds"):
                result[f"{key}_std"] = stdev(values) if len(values) > 1 else None
        for key, seconds in (("time_saved", totals), ("cpu_saved", cpu)):
            result[key] = None if run == BASELINE else time_saved(seconds[run], seconds.get(BASELINE, {}))
        summary.append(result)
    return summary


def time_saved(seconds: Mapping[int, float], baseline: Mapping[int, float]) -> float | None:
    """Mean over shared seeds of 1 - seconds / baseline; None when no seed is shared."""
    shared = [seed for seed in seconds if baseline.get(seed)]
    return fmean(1 - seconds[seed] / baseline[seed] for seed in shared) if shared else None


def _by_seed(by_run: Mapping[str, list[Row]], key: str) -> dict[str, dict[int, float]]:
    return {run: {row["seed"]: row[key] for row in rows if row.get(key) is not None} for run, rows in by_run.items()}


def _with_defaults(row: Mapping[str, Any]) -> Row:
    return {
        **row,
        "method": row.get("method", row["run"]),
        "keep_fraction": row.get("keep_fraction", row.get("kept")),
        "total_seconds": row["total_seconds"] if "total_seconds" in row else row["seconds"],
    }
