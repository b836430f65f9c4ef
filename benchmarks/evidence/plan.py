"""The plan file: which runs there are, which are worth most, and what they will cost."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.evidence.candidates import find_method
from benchmarks.evidence.spec import UNSCORED, Run, examples_of, run_of, scored_of

PLAN = Path(__file__).with_name("plan.toml")
SCORING_SHARE = 0.35
"""About what a scored example costs, as a share of a trained one. Only the plan's core-hours use it."""

_BLOCK = {"name", "about", "data", "seeds", "priority", "runs"}
_ENTRY = {"budgets", "keeps", "lrs", "priority"}
_RUN = {f.name for f in fields(Run)}


@dataclass(frozen=True)
class DataEntry:
    """What the plan says about a data set.

    Attributes:
        train: The number of training examples, without the validation split.
        examples_per_second: The speed of one core with three layers. Only the plan's core-hours use it.
        defaults: Arguments of every run on the data set. The learning rate is one of them, once it is chosen.
    """

    train: int
    examples_per_second: float
    defaults: Mapping[str, Any]


@dataclass(frozen=True)
class Planned:
    """A run with its place in the plan. Lower priorities come first."""

    run: Run
    block: str
    priority: float
    place: int
    seed_rank: int

    @property
    def worth(self) -> tuple[float, float, int]:
        """The order of runs: one seed of everything before a second seed."""
        return self.seed_rank, self.priority, self.place


@dataclass(frozen=True)
class Plan:
    """The content of a plan file.

    Attributes:
        runs: Every run once, the most useful first.
        data: What the plan says about each data set, by name.
        abouts: The description of each block, by name.
        waiting: (block, data) for which no learning rate has been chosen yet.
        held_back: Methods that must not run for now.
    """

    runs: Sequence[Planned]
    data: Mapping[str, DataEntry]
    abouts: Mapping[str, str]
    waiting: Sequence[tuple[str, str]]
    held_back: frozenset[str]

    def allowed(self) -> list[Planned]:
        """The runs whose method is not held back."""
        return [planned for planned in self.runs if planned.run.method not in self.held_back]

    def measured(self, lines: Iterable[Mapping[str, Any]]) -> Plan:
        """The plan, with the measured examples per CPU second of each data set that has result lines.

        The speed is the median over lines of runs without scoring passes.
        """
        found: dict[str, list[float]] = {}
        for line in lines:
            counts = line["counts"]
            seconds = counts["cpu_seconds"]["train"]
            if not counts["score"]["examples"] and seconds:
                depth = len(line["arguments"]["layers"]) / 3
                found.setdefault(line["arguments"]["data"], []).append(counts["train"]["examples"] * depth / seconds)
        data = {
            name: replace(entry, examples_per_second=median(found[name])) if name in found else entry
            for name, entry in self.data.items()
        }
        return replace(self, data=data)

    def work(self, run: Run) -> tuple[int, int]:
        """Examples of a run: (trained on, scored in passes)."""
        n = self.data[run.data].train
        return examples_of(run, n), scored_of(run, n)

    def core_seconds(self, run: Run) -> float:
        """About how long a run takes on one core."""
        trained, scored = self.work(run)
        depth = len(run.layers) / 3
        return (trained + SCORING_SHARE * scored) * depth / self.data[run.data].examples_per_second


def read_plan(path: Path = PLAN) -> Plan:
    """Read and check a plan file.

    Raises:
        ValueError: A name or a value is wrong. The message names the block.
    """
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    common = content.get("common", {})
    data = {name: _data_entry(name, entry) for name, entry in content.get("data", {}).items()}
    runs: dict[str, Planned] = {}
    waiting: list[tuple[str, str]] = []
    abouts: dict[str, str] = {}
    for block in content["block"]:
        name = block["name"]
        abouts[name] = block.get("about", "")
        try:
            for priority, arguments, rank in _arguments_of(block, common, data):
                if "lr" not in arguments:
                    waiting.append((name, arguments["data"]))
                    continue
                run = _plain(run_of(arguments))
                find_method(run.method)
                runs.setdefault(run.key, Planned(run, name, priority, len(runs), rank))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path.name}, block {name!r}: {error}") from error
    ordered = sorted(runs.values(), key=lambda planned: planned.worth)
    return Plan(ordered, data, abouts, list(dict.fromkeys(waiting)), frozenset(content.get("held_back", ())))


def _data_entry(name: str, entry: Mapping[str, Any]) -> DataEntry:
    rest = {key: value for key, value in entry.items() if key not in ("train", "examples_per_second")}
    if unknown := sorted(set(rest) - _RUN):
        raise ValueError(f"data {name!r}: there is no argument {unknown[0]!r}")
    return DataEntry(entry["train"], entry["examples_per_second"], rest)


def _arguments_of(
    block: Mapping[str, Any], common: Mapping[str, Any], data: Mapping[str, DataEntry]
) -> Iterator[tuple[float, dict[str, Any], int]]:
    """(priority, arguments, rank of the seed) of each run. The order is by seed, then by run, then by data set."""
    if unknown := sorted(set(block) - _BLOCK - _RUN):
        raise ValueError(f"a block has no {unknown[0]!r}")
    shared = {**common, **{key: value for key, value in block.items() if key in _RUN and key != "data"}}
    for rank, seed in enumerate(block["seeds"]):
        for entry in block["runs"]:
            if unknown := sorted(set(entry) - _ENTRY - _RUN):
                raise ValueError(f"a run has no {unknown[0]!r}")
            own = {key: value for key, value in entry.items() if key in _RUN}
            for variant in _variants(entry):
                for name in block["data"]:
                    arguments = {**data[name].defaults, **shared, **own, **variant, "data": name, "seed": seed}
                    yield entry.get("priority", block["priority"]), arguments, rank


def _variants(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One for each budget, share kept or learning rate that the entry lists. Without a list there is one."""
    listed = [("budget", "budgets"), ("keep", "keeps"), ("lr", "lrs")]
    given = [(argument, entry[plural]) for argument, plural in listed if plural in entry]
    if len(given) > 1:
        raise ValueError(f"list {given[0][0]}s or {given[1][0]}s in one run, not both")
    if not given:
        yield {}
    for argument, values in given:
        for value in values:
            yield {argument: value}


def _plain(run: Run) -> Run:
    """The run without arguments that change nothing for its method, so that equal runs have equal keys."""
    changes: dict[str, Any] = {}
    if run.method in UNSCORED:
        changes |= {"smoothing": "latest"}
    if run.method == "full":
        changes |= {"warmup_epochs": 1, "cycle_epochs": 1, "final_share": None}
    return run_of({**run.arguments, **changes})
