"""The folder of a run: a new one, one to resume, or a finished one that gets more runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastprune.app.dynamics import count_epochs
from fastprune.app.finetune.checkpoint import CHECKPOINT, remove_checkpoint, write_finished
from fastprune.app.finetune.columns import results_of
from fastprune.app.finetune.ranks import tell
from fastprune.app.finetune.spec import RunSpec
from fastprune.app.report import RunFolder
from fastprune.app.report.folder import FILES, MODEL, SUMMARY, plain
from fastprune.errors import UsageError
from fastprune.files.atomic import sweep

PLACES = ("model", "dynamics")
"""Options that may be paths."""


def begin(
    out: Path, specs: Sequence[RunSpec], options: Mapping[str, Any], config: Mapping[str, Any], dynamics: Path | None,
    *, extend: bool, going_on: bool,
) -> None:  # fmt: skip
    """Make the run folder, or check that it can be resumed.  The first process calls it."""
    if extend:
        _extend(out, specs, options, config, dynamics)
    elif going_on:
        _check_same(RunFolder.open(out).read_config(), options, out)
    else:
        RunFolder.create(out).write_config(config)
        remove_checkpoint(out)
    sweep(out, (*FILES, MODEL))
    tell(f"run folder: {out}")


def _check_same(
    config: Mapping[str, Any], options: Mapping[str, Any], out: Path, apart_from: Sequence[str] = ()
) -> None:
    """Refuse to go on with other data or other options than those that the folder was begun with."""
    theirs = config.get("fingerprint")
    if theirs != options["fingerprint"]:
        raise UsageError(
            f"the run in {out} belongs to another data set (fingerprint {str(theirs)[:12]}…, "
            f"--data has {options['fingerprint'][:12]}…); pass the data it was made with"
        )
    # The command keeps whole paths, so that a run can be gone on with from another folder.
    whole = {name: path for name, path in (config.get("command") or {}).items() if name in PLACES}
    for name, value in options.items():
        before = {**config, **whole}.get(name)
        now = str(Path(value).resolve()) if name in whole and value is not None else plain(value)
        if name not in apart_from and before != now and before != plain(value):
            raise UsageError(
                f"the run in {out} was made with {name} = {before!r}, now it is {value!r}; leave out what differs"
            )


def _extend(
    out: Path, specs: Sequence[RunSpec], options: Mapping[str, Any], config: Mapping[str, Any], dynamics: Path | None
) -> None:
    """Turn a finished run folder into one of a longer comparison that was killed after the runs it has."""
    folder = RunFolder.open(out)
    before = folder.read_config()
    _check_same(before, options, out, apart_from=("runs", "epochs"))
    again = before.get("epochs") != options["epochs"]
    kept = {} if again else results_of(folder, specs)
    refuse_old_dynamics(dynamics, (spec for number, spec in enumerate(specs) if number not in kept))
    if len(kept) == len(specs):
        raise UsageError(f"--extend: {out} has all of these runs; add a --seed, a --method or other --epochs")
    (out / CHECKPOINT).mkdir(exist_ok=True)
    for number, result in kept.items():
        write_finished(out, number, asdict(result))
    folder.write_config({**config, "model": before.get("model")})  # by the name that it was given first
    (out / SUMMARY).unlink(missing_ok=True)


def refuse_old_dynamics(base: Path | None, specs: Iterable[RunSpec]) -> None:
    """Refuse folders of training dynamics that hold an earlier run's.

    Raises:
        UsageError: one of them does.
    """
    for spec in specs:
        if base is None:
            return
        folder = dynamics_folder(base, spec)
        if count_epochs(folder):
            raise UsageError(f"--dynamics: {folder} holds training dynamics already; choose another folder")


def dynamics_folder(base: Path, spec: RunSpec) -> Path:
    """Return the folder of a run's training dynamics, which is named after run and seed."""
    return base / re.sub(r"[^\w.=-]+", "-", f"{spec.name} seed {spec.seed}")
