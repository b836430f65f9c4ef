"""From result lines to comparisons with `full`, as pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from benchmarks.evidence.candidates import CANDIDATES
from benchmarks.evidence.results import current
from benchmarks.evidence.spec import run_of
from benchmarks.evidence.timemodel import run_seconds

Line = Mapping[str, Any]
PLACE = ("kind", "threads", "precision")


@dataclass(frozen=True)
class Pair:
    """A run beside `full` of the same seed and setting, on the same machine kind.

    Attributes:
        points: The figure minus full's, in points of 100.
        examples: Its share of full's trained examples.
        padded: Its share of full's padded tokens. Training takes three passes over a token and scoring takes one. So a
            scored token counts as a third.
        cpu: Its share of full's CPU seconds, counted while other work ran.
        seconds: Its share of full's computed seconds, or None without a calibration.
    """

    points: float
    examples: float
    padded: float
    cpu: float
    seconds: float | None


@dataclass(frozen=True)
class Row:
    """A method at a budget in a setting, over seeds.

    Attributes:
        label: The name of the method and its settings.
        budget: The budget, if the run has one.
        figures: The figure of each seed, in points of 100.
        pairs: With full of the same seed. There are fewer than ``figures`` where full is missing.
    """

    label: str
    budget: float | None
    figures: Sequence[float]
    pairs: Sequence[Pair]

    def mean(self, name: str) -> float | None:
        """The mean of a field of the pairs, or None if a pair has none."""
        values = [getattr(pair, name) for pair in self.pairs]
        return fmean(values) if values and None not in values else None


@dataclass(frozen=True)
class Table:
    """All rows of one setting (data set, model, epochs and schedule) on one machine kind."""

    title: str
    metric: str
    place: tuple[Any, ...]
    rows: Sequence[Row]


def pair(base: Line, line: Line, calibrations: Mapping[str, Mapping[str, Any]]) -> Pair:
    """A run beside the full run.

    Raises:
        ValueError: They have different machine kinds, thread counts, precisions or settings.
    """
    for name in PLACE:
        ours, theirs = line["machine"][name], base["machine"][name]
        if ours != theirs:
            raise ValueError(f"runs of {name} {theirs!r} and {ours!r} are not compared: {base['key']}, {line['key']}")
    if base["group"] != line["group"]:
        raise ValueError(f"runs of different settings are not compared: {base['key']}, {line['key']}")
    ours, theirs = line["counts"], base["counts"]

    def padded(counts: Mapping[str, Any]) -> float:
        return counts["train"]["padded_tokens"] + counts["score"]["padded_tokens"] / 3

    return Pair(
        points=100 * (line["figure"] - base["figure"]),
        examples=ours["train"]["examples"] / theirs["train"]["examples"],
        padded=padded(ours) / padded(theirs),
        cpu=sum(ours["cpu_seconds"].values()) / sum(theirs["cpu_seconds"].values()),
        seconds=share_of_seconds(base, line, calibrations),
    )


def share_of_seconds(base: Line, line: Line, calibrations: Mapping[str, Mapping[str, Any]]) -> float | None:
    """The computed seconds of a run over those of the full run, or None without a calibration."""
    calibration = calibrations.get(line["machine"]["kind"])
    if calibration is None:
        return None
    try:
        ours, theirs = (sum(run_seconds(calibration, one).values()) for one in (line, base))
    except ValueError:
        return None
    return ours / theirs


def tables(lines: Iterable[Line], calibrations: Mapping[str, Mapping[str, Any]]) -> list[Table]:
    """One table for each setting and machine.

    Lines of an older rule or loop, lines of tuning, and those of rules that were tried for ``auto`` are left out.
    """
    kept = [line for line in lines if current(line) and line["arguments"]["split"] == "test" and shows_test(line)]
    settings: dict[tuple[Any, ...], list[Line]] = {}
    for line in kept:
        settings.setdefault((*setting_of(line), *place_of(line)), []).append(line)
    return [_table(part, calibrations) for _, part in sorted(settings.items(), key=lambda item: str(item[0]))]


def shows_test(line: Line) -> bool:
    """Whether the figure on the test split may be looked at."""
    return line["arguments"]["method"] not in CANDIDATES


def setting_of(line: Line) -> tuple[Any, ...]:
    """What the lines of a table share: everything that a group shares, except the seed."""
    run = run_of({**line["arguments"], "seed": 0})
    return run.data, run.epochs, run.schedule, run.group


def place_of(line: Line) -> tuple[Any, ...]:
    """Machine kind, threads and precision."""
    return tuple(line["machine"][name] for name in PLACE)


def place_name(place: tuple[Any, ...]) -> str:
    """`place_of` in words."""
    kind, threads, precision = place
    return f"{kind}, {threads_name(threads)}, {precision}"


def threads_name(threads: int) -> str:
    """The number of threads in words."""
    return f"{threads} thread{'s' * (threads != 1)}"


def noise_name(noise: float) -> str:
    """What a title says of wrong labels: nothing if there are none."""
    return f", {100 * noise:g} % of the labels wrong" if noise else ""


def _table(lines: Sequence[Line], calibrations: Mapping[str, Mapping[str, Any]]) -> Table:
    run = run_of(lines[0]["arguments"])
    bases = {line["group"]: line for line in lines if line["label"] == "full"}
    by_row: dict[tuple[str, float | None], list[Line]] = {}
    for line in lines:
        by_row.setdefault((line["label"], line["arguments"]["budget"]), []).append(line)
    rows = []
    for (label, budget), part in sorted(by_row.items(), key=_order):
        part = sorted(part, key=lambda line: line["arguments"]["seed"])
        pairs = [pair(bases[line["group"]], line, calibrations) for line in part if line["group"] in bases]
        rows.append(Row(label, budget, [100 * line["figure"] for line in part], [] if label == "full" else pairs))
    depth = f"{len(run.layers)} layers"
    rate = f"{run.schedule} learning rate {run.lr:g}"
    title = f"{run.data}, {run.epochs} epochs, {rate}, {depth}{noise_name(run.noise)}"
    return Table(title, lines[0]["metric"], place_of(lines[0]), rows)


def _order(item: tuple[tuple[str, float | None], Any]) -> tuple[float, bool, str]:
    (label, budget), _ = item
    return (-1.0 if budget is not None or label != "full" else -2.0) - (budget or 0.0), label != "short full", label


def spread(values: Sequence[float]) -> float | None:
    """The sample deviation, or None for a single value."""
    return stdev(values) if len(values) > 1 else None
