"""A run's time on an idle machine, computed from its counts: pure functions.

Runs share their machine with other work, so their own clocks say little. A calibration says how long a padded token
takes, by the width of its batch. A run counts its tokens of each width. The first batch at a width takes longer, so the
number of different widths counts too.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.evidence.candidates import find_method
from fastprune.files.atomic import write_atomic

KINDS = ("step", "step_scored", "score", "forward")
"""What is calibrated: a training step, a step whose scores are recorded, a batch of a scoring pass, and its forward
pass.
"""

Key = TypeVar("Key", bound=Hashable)
Curve = Mapping[str, float]
"""{width: seconds for each padded token of a batch of this width}."""


def seconds_of(curve: Curve, widths: Mapping[str, list[int]]) -> float:
    """Seconds of batches of these widths, {width: [batches, examples]}.

    A batch has a fixed cost, and a cost for each token. So the seconds of an example are taken as linear between the
    calibrated widths, and not the seconds of a token.
    """
    known = sorted((int(width), int(width) * seconds) for width, seconds in curve.items())
    at, per_example = (np.array(column, dtype=float) for column in zip(*known, strict=True))
    wanted = np.array([int(width) for width in widths], dtype=float)
    examples = np.array([count for _, count in widths.values()], dtype=float)
    return float(np.interp(wanted, at, per_example) @ examples)


def run_seconds(calibration: Mapping[str, Any], line: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of a run by part: train, score and select. The last one is as counted, because it is next to nothing.

    An older calibration has no seconds for the first batch at a width. It then counts like any other batch.

    Raises:
        ValueError: The calibration is of another machine, or does not hold this data set and model.
    """
    for name in ("kind", "threads", "precision"):
        if calibration["machine"][name] != line["machine"][name]:
            raise ValueError(
                f"the calibration is of {name} {calibration['machine'][name]!r}, the run of {line['machine'][name]!r}"
            )
    curves = calibration["curves"].get(setting(line["arguments"]))
    if curves is None:
        raise ValueError(f"there is no calibration for {setting(line['arguments'])}; run `calibrate`")
    counts = line["counts"]
    first = calibration.get("first", {}).get(first_setting(line["arguments"]), {})

    def seconds(part: str, kind: str) -> float:
        widths = counts[part]["widths"]
        return seconds_of(curves[kind], widths) + first.get(part, 0.0) * len(widths) if widths else 0.0

    return {
        "train": seconds("train", step_kind(line["arguments"])),
        "score": seconds("score", "score"),
        "select": float(counts["cpu_seconds"]["select"]),
    }


def through_drift(rounds: Sequence[Mapping[Key, float]]) -> dict[Key, float]:
    """Seconds of each case over a time in which the machine's speed changed.

    The usual seconds of a case are its median over rounds. A case's slowness in a round is its seconds divided by its
    usual seconds. The slowness of a round is the median over its cases. The result of a case is its usual seconds times
    the mean slowness. The mean is harmonic, because each bit of work should count alike. Rounds come at equal
    intervals, and a slow machine does less work in an interval.
    """
    usual = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
    slowness = [statistics.median(one[key] / usual[key] for key in usual) for one in rounds]
    mean = statistics.harmonic_mean(slowness)
    return {key: seconds * mean for key, seconds in usual.items()}


def slower(beside: Mapping[str, Curve], calibrated: Mapping[str, Curve]) -> float:
    """How many times as slow the machine is beside a run as it was in the calibration: the median over all cases."""
    ratios = [seconds / calibrated[kind][width] for kind, curve in beside.items() for width, seconds in curve.items()]
    return statistics.median(ratios)


def compared(calibration: Mapping[str, Any], beside: Mapping[str, Curve], line: Mapping[str, Any]) -> dict[str, float]:
    """A run's measured seconds beside its computed ones.

    Args:
        calibration: The calibration of the machine.
        beside: Curves of the run's kinds of batches, measured during the run.
        line: The run's arguments, machine and counts. Measured seconds take the place of CPU seconds.

    Returns:
        The seconds measured, the seconds computed from the curves beside the run, and the error of the latter. Then how
        many times as slow the machine was as in the calibration. Then the error of the calibration's own curves at that
        speed.
    """
    name = setting(line["arguments"])
    slow = slower(beside, calibration["curves"][name])
    first = {
        batch: {part: slow * seconds for part, seconds in parts.items()}
        for batch, parts in calibration.get("first", {}).items()
    }
    measured = sum(line["counts"]["cpu_seconds"].values())
    computed = sum(run_seconds({**calibration, "curves": {name: beside}, "first": first}, line).values())
    from_file = sum(seconds for part, seconds in run_seconds(calibration, line).items() if part != "select")
    from_file = slow * from_file + line["counts"]["cpu_seconds"]["select"]
    return {
        "measured_seconds": round(measured, 2),
        "computed_seconds": round(computed, 2),
        "error": round(computed / measured - 1, 4),
        "slower": round(slow, 4),
        "error_of_the_file": round(from_file / measured - 1, 4),
    }


def step_kind(arguments: Mapping[str, Any]) -> str:
    """The kind of a run's training steps."""
    return "step_scored" if find_method(arguments["method"]).observes else "step"


def first_setting(arguments: Mapping[str, Any]) -> str:
    """What the seconds of first batches depend on: the batch size. Layers of one size share what is prepared."""
    return f"batch {arguments['batch_size']}"


def setting(arguments: Mapping[str, Any]) -> str:
    """What a calibration depends on: data set, layers and batch size."""
    layers = "-".join(str(layer) for layer in arguments["layers"])
    return f"{arguments['data']}, layers {layers}, batch {arguments['batch_size']}"


def calibration_file(kind: str, folder: Path) -> Path:
    """The file of a machine kind's calibration."""
    return folder / f"{kind}.calibration.json"


def write_calibration(calibration: Mapping[str, Any], folder: Path) -> Path:
    """Write a calibration, or leave the old one if that fails. Returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = calibration_file(calibration["machine"]["kind"], folder)
    text = json.dumps(calibration, indent=1) + "\n"
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return path


def read_calibrations(folder: Path) -> dict[str, dict[str, Any]]:
    """The calibrations in a results folder, by machine kind."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.calibration.json"))]
    return {calibration["machine"]["kind"]: calibration for calibration in found}
