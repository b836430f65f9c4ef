"""Turns evaluations into one row per run: means and deviations over seeds, and what pruning saved and cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from fastprune.app.measures import MEASURES, measure_of
from fastprune.app.report.json_types import Row
from fastprune.app.report.unfinished import unfinished_runs

SECONDS = ("train_seconds", "score_seconds", "select_seconds", "total_seconds", "cpu_seconds")
BASELINE = "full"
OLDER_MEASURES = ("exact_match", "intent_accuracy", "slot_f1")
"""The quality measures of folders that do not say theirs; the first decides."""


@dataclass(frozen=True)
class Judged:
    """How runs are judged.

    Attributes:
        measures: quality measures, the deciding one first.
        reported: splits, the deciding one first.
        chosen_on: the split by which each run's best epoch was chosen, None where it is the last epoch.
    """

    measures: tuple[str, ...]
    reported: tuple[str, ...]
    chosen_on: str | None = None


def judged_by(config: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> Judged:
    """Return what ``config.json`` says, or for folders that do not say it, what the evaluations hold.

    A split can have chosen only if it was evaluated.
    """
    there = [name for name in (*OLDER_MEASURES, *MEASURES) if any(row.get(name) is not None for row in metrics)]
    splits = dict.fromkeys(row["split"] for row in metrics)
    return Judged(
        tuple(config.get("metrics") or dict.fromkeys(there)),
        tuple(config.get("reported") or (["test"] if "test" in splits else splits)),
        config["best"] if config.get("best") in splits else None,
    )


def make_summary(
    metrics: Sequence[Mapping[str, Any]], config: Mapping[str, Any], model_run: Mapping[str, Any] | None = None
) -> Row:
    """Return ``summary.json`` of the rows of ``metrics.jsonl`` and of ``config.json``.

    Runs that have not reached their end are listed as ``unfinished``.  They are left out of the rows, unless no run has
    reached its end.

    Args:
        metrics: the rows.
        config: the settings.
        model_run: run, seed and epoch that ``model/`` holds.
    """
    judged = judged_by(config, metrics)
    split, *others = judged.reported
    unfinished = unfinished_runs(metrics, config)
    under_way = {(run["run"], run["seed"]) for run in unfinished}
    finished = [row for row in metrics if (row["run"], row["seed"]) not in under_way]
    shown = finished or metrics
    rows = {name: summarise(final_rows(shown, judged, name), judged.measures) for name in judged.reported}
    return {
        "data": config.get("data"),
        "model": config.get("model"),
        "metrics": list(judged.measures),
        "deciding": judged.measures[0] if judged.measures else None,
        "split": split,
        "chosen_on": judged.chosen_on,
        "model_run": model_run,
        "unfinished": unfinished,
        "left_out": bool(finished),
        "rows": rows[split],
        "others": {name: [_quality(row, judged.measures) for row in rows[name]] for name in others if rows[name]},
    }


def final_rows(metrics: Iterable[Mapping[str, Any]], judged: Judged, split: str) -> list[Row]:
    """Return the last evaluation on ``split`` of every (run, seed), in order of first appearance.

    Where a split chose the best epoch, the quality measures are those of that epoch.  The rest, such as the seconds,
    is of the last.
    """
    runs: dict[tuple[str, int], dict[str, dict[int, Row]]] = {}
    for row in metrics:
        of_run = runs.setdefault((row["run"], row["seed"]), {})
        of_run.setdefault(row["split"], {})[row["epoch"]] = dict(row)
    final = []
    for splits in runs.values():
        mine = splits.get(split, {})
        rank = {
            epoch: row[judged.measures[0]]
            for epoch, row in splits.get(judged.chosen_on or "", {}).items()
            if epoch in mine and row.get(judged.measures[0]) is not None
        }
        if mine:
            sign = measure_of(judged.measures[0]).sign if rank else 1
            shown = max(sorted(rank), key=lambda epoch: sign * rank[epoch]) if rank else max(mine)
            final.append({**mine[max(mine)], **{name: mine[shown].get(name) for name in judged.measures}})
    return final


def summarise(rows: Sequence[Mapping[str, Any]], measures: Sequence[str]) -> list[Row]:
    """One row per run from its final rows, one per seed; runs keep their order of first appearance.

    Runs keep their order of first appearance.  ``method`` defaults to the run's name, ``keep_fraction`` to ``kept`` and
    ``total_seconds`` to ``seconds``.

    Values are means over seeds; ``<measure>_std`` and ``total_seconds_std`` are sample deviations, None with one seed.
    Against the run named "full", seed by seed and over the ``shared_seeds`` alone: ``time_saved``, 1 - total / total;
    ``cpu_saved``, the same of CPU seconds, which do not grow when other programs share the machine; and ``gain``, how
    much better the deciding measure (the first of ``measures``) is, with ``gain_std``.  They are None for "full" itself
    and where no seed is shared.  ``tokens_per_second`` is that of training, where tokens were counted.
    """
    by_run: dict[str, dict[int, Row]] = {}
    for row in rows:
        by_run.setdefault(row["run"], {})[row["seed"]] = _with_defaults(row)
    full = by_run.get(BASELINE, {})
    summary = []
    for run, seeds in by_run.items():
        first = next(iter(seeds.values()))
        result: Row = {key: first[key] for key in ("run", "method", "keep_fraction")}
        result |= {"seeds": sorted(seeds), "n_seeds": len(seeds), "deciding": measures[0] if measures else None}
        for key in (*measures, *SECONDS, "examples_seen", "tokens_per_second"):
            values = [row[key] for row in seeds.values() if row.get(key) is not None]
            if values:
                result[key] = fmean(values)
            if values and (key in measures or key == "total_seconds"):
                result[f"{key}_std"] = _deviation(values)
        compared = {} if run == BASELINE else full
        for name, key in (("time_saved", "total_seconds"), ("cpu_saved", "cpu_seconds")):
            shares = [1 - mine / whole for mine, whole in _pairs(seeds, compared, key) if whole]
            result[name] = fmean(shares) if shares else None
        sign = measure_of(result["deciding"]).sign
        gains = [sign * (mine - whole) for mine, whole in _pairs(seeds, compared, result["deciding"] or "")]
        result |= {"gain": fmean(gains) if gains else None, "gain_std": _deviation(gains)}
        result["shared_seeds"] = len(seeds.keys() & compared.keys())
        summary.append(result)
    return summary


def _pairs(mine: Mapping[int, Row], other: Mapping[int, Row], key: str) -> list[tuple[float, float]]:
    """Return the values of both, seed by seed, of the seeds for which both have one."""
    both = [(mine[seed].get(key), other[seed].get(key)) for seed in mine if seed in other]
    return [(a, b) for a, b in both if a is not None and b is not None]


def _deviation(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


def _quality(row: Row, measures: Sequence[str]) -> Row:
    wanted = {"run", "deciding", "n_seeds", *measures, *(f"{name}_std" for name in measures)}
    return {key: value for key, value in row.items() if key in wanted}


def _with_defaults(row: Mapping[str, Any]) -> Row:
    tokens, seconds = row.get("tokens_seen"), row.get("train_seconds")
    return {
        **row,
        **({"tokens_per_second": tokens / seconds} if tokens and seconds else {}),
        "method": row.get("method") or row["run"],
        "keep_fraction": row.get("keep_fraction", row.get("kept")),
        "total_seconds": row["seconds"] if row.get("total_seconds") is None else row["total_seconds"],
    }
