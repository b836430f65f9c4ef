"""A run's time on an idle machine, computed from what it counted: pure functions.

Runs share their machine with other work, so their own clocks say little.  A calibration says how long a padded token
takes there, by the width of its batch; a run says how many it had of each width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastprune.atomic import write_atomic
from fastprune.pruning import get_method

KINDS = ("step", "step_scored", "score", "forward")
"""What is calibrated: a training step; one whose scores are recorded; a batch of a scoring pass; its forward pass."""

Curve = Mapping[str, float]
"""{width: seconds for each padded token of a batch so wide}."""


def seconds_of(curve: Curve, widths: Mapping[str, list[int]]) -> float:
    """Seconds of batches of these widths, {width: [batches, examples]}.

    A batch costs something whatever its width, and then so much for each token.  So the seconds of an example, and not
    those of a token, are taken as linear between the calibrated widths.
    """
    known = sorted((int(width), int(width) * seconds) for width, seconds in curve.items())
    at, per_example = (np.array(column, dtype=float) for column in zip(*known, strict=True))
    wanted = np.array([int(width) for width in widths], dtype=float)
    examples = np.array([count for _, count in widths.values()], dtype=float)
    return float(np.interp(wanted, at, per_example) @ examples)


def run_seconds(calibration: Mapping[str, Any], line: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of a run by part: train, score, select; the last as it was counted, since it is next to nothing.

    Raises:
        ValueError: the calibration is of another machine, or does not hold this data set and model.
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
    observes = get_method(line["arguments"]["method"]).observes
    return {
        "train": seconds_of(curves["step_scored" if observes else "step"], counts["train"]["widths"]),
        "score": seconds_of(curves["score"], counts["score"]["widths"]),
        "select": float(counts["cpu_seconds"]["select"]),
    }


def setting(arguments: Mapping[str, Any]) -> str:
    """What a calibration holds for: data set, layers and batch size."""
    layers = "-".join(str(layer) for layer in arguments["layers"])
    return f"{arguments['data']}, layers {layers}, batch {arguments['batch_size']}"


def calibration_file(kind: str, folder: Path) -> Path:
    """Where the calibration of a machine kind is."""
    return folder / f"{kind}.calibration.json"


def write_calibration(calibration: Mapping[str, Any], folder: Path) -> Path:
    """Write a calibration, or leave the old one; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = calibration_file(calibration["machine"]["kind"], folder)
    text = json.dumps(calibration, indent=1) + "\n"
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return path


def read_calibrations(folder: Path) -> dict[str, dict[str, Any]]:
    """The calibrations in a results folder, by machine kind."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.calibration.json"))]
    return {calibration["machine"]["kind"]: calibration for calibration in found}
