"""What each job of the command line does.

Imports are inside the jobs, because `pause` must answer at once and PyTorch takes seconds.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.evidence.work import Work

STARTED = time.monotonic()


def plan(given: argparse.Namespace) -> None:
    """Print the plan."""
    from benchmarks.evidence.overview import overview
    from benchmarks.evidence.plan import read_plan
    from benchmarks.evidence.results import read_all

    print(overview(read_plan(given.plan), read_all(given.results)))


def run(given: argparse.Namespace) -> None:
    """Do runs until none is left or the deadline comes."""
    from benchmarks.evidence.control import only_runner
    from benchmarks.evidence.machine import machine_kind
    from benchmarks.evidence.plan import read_plan
    from benchmarks.evidence.results import append, file_of, is_from, read_all
    from benchmarks.evidence.runner import Runner, worker_command
    from benchmarks.evidence.schedule import Growth, unfinished
    from benchmarks.evidence.work import Place

    os.nice(given.nice)
    place = Place(given.device, given.threads, given.data, given.cache, given.model)
    kind = machine_kind(given.device)
    path = file_of(kind, given.results)
    planned = read_plan(given.plan)
    with only_runner(given.cache):
        lines = read_all(given.results) + ([] if given.known is None else read_all(given.known))
        own, others = ([line for line in lines if is_from(line, kind, given.threads) is ours] for ours in (True, False))
        planned = planned.measured(own)
        left = unfinished(planned.allowed(), own, others)
        if given.only:
            left = [p for p in left if given.only in p.block]
        if given.sets:
            left = [p for p in left if p.run.data in given.sets]
        left = left[: given.most]
        print(f"{len(left)} runs to do; results go into {path}", flush=True)

        def write(line: Mapping[str, Any]) -> None:
            append(path, line)
            for done in (p for p in planned.runs if p.run.key == line["key"]):
                place.state_file(done.run).unlink(missing_ok=True)

        auto = given.workers == "auto"
        most = (os.cpu_count() or 1) if auto else int(given.workers)
        growth = Growth(most)
        if not auto:
            growth.workers = most
        runner = Runner(
            worker_command(_worker_arguments(given)),
            left,
            write,
            growth,
            deadline=None if given.deadline is None else given.deadline - (time.monotonic() - STARTED),
            expected={p.run.key: sum(planned.work(p.run)) for p in left},
            # The plan's times are those of a CPU's core.
            guessed={p.run.key: planned.core_seconds(p.run) for p in left} if given.device == "cpu" else {},
            threads=given.threads,
            say=lambda text: print(text, flush=True),
        )
        session = runner.run_all()
    print(f"{len(session.done)} runs done, {len(session.failed)} failed")


def _worker_arguments(given: argparse.Namespace) -> list[str]:
    named = {"cache": given.cache, "data": given.data, "device": given.device, "threads": given.threads}
    named |= {"save-seconds": given.save_seconds}
    if given.model is not None:
        named["model"] = given.model
    return [text for name, value in named.items() for text in (f"--{name}", str(value))]


def tell(cache: Path, signals: tuple[signal.Signals, ...]) -> None:
    """Send signals to the runner."""
    from benchmarks.evidence.control import send

    group = send(cache, *signals)
    print(f"no runner works in {cache}" if group is None else f"told the runner {group}")


def merge(given: argparse.Namespace) -> None:
    """Add lines that this checkout does not have."""
    from benchmarks.evidence.results import merge_files

    for kind, count in merge_files(given.files, given.results).items():
        print(f"{kind}: {count} new lines")


def calibrate(given: argparse.Namespace) -> None:
    """Measure, and write the calibration of this machine kind beside the results."""
    from benchmarks.evidence import calibrate as calibration
    from benchmarks.evidence.plan import read_plan
    from benchmarks.evidence.timemodel import write_calibration

    work = _measuring_work(given)
    runs = {p.run.data: p.run for p in read_plan(given.plan).runs if given.sets is None or p.run.data in given.sets}
    found = calibration.calibrate(work, list(runs.values()), lambda text: print(text, flush=True))
    print(f"wrote {write_calibration(found, given.results)}")


def confirm(given: argparse.Namespace) -> None:
    """Make whole runs, and add to the calibration how far their computed time is off."""
    from benchmarks.evidence.confirm import confirm as confirmed
    from benchmarks.evidence.confirm import runs_to_confirm
    from benchmarks.evidence.machine import machine_kind
    from benchmarks.evidence.plan import read_plan
    from benchmarks.evidence.timemodel import calibration_file, read_calibrations, write_calibration

    kind = machine_kind(given.device)
    found = read_calibrations(given.results).get(kind)
    if found is None:
        raise RuntimeError(f"{calibration_file(kind, given.results)} is missing; run `calibrate` first")
    runs = runs_to_confirm(read_plan(given.plan))
    work = _measuring_work(given)
    found["confirmed"] = confirmed(work, found, runs, lambda text: print(text, flush=True))
    print(f"wrote {write_calibration(found, given.results)}")


def _measuring_work(given: argparse.Namespace) -> Work:
    """The object that makes runs in this process. The process is restarted in a worker's environment if it is in
    another.

    Raises:
        RuntimeError: The machine is not idle, and --busy was not given.
    """
    from benchmarks.evidence.calibrate import IDLE, busy_share
    from benchmarks.evidence.runner import environment
    from benchmarks.evidence.work import Place, Work

    wanted = environment(given.threads)
    if os.environ.get("MALLOC_TRIM_THRESHOLD_") != wanted["MALLOC_TRIM_THRESHOLD_"]:
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.evidence", *sys.argv[1:]], wanted)
    if not given.busy and (share := busy_share()) > IDLE:
        raise RuntimeError(f"{share:.0%} of this machine is at work; `pause` the runner and wait, or pass --busy")
    return Work(Place(given.device, given.threads, given.data, given.cache, given.model))


def pack(given: argparse.Namespace) -> None:
    """Make the folder, and say how to use it."""
    from benchmarks.evidence.pack import MOST_BYTES, make_pack
    from benchmarks.evidence.plan import read_plan
    from benchmarks.evidence.work import Place, Work

    work = Work(Place("cpu", given.threads, given.data, given.cache, given.model))
    size = make_pack(given.out, work, read_plan(given.plan), given.plan, given.results, given.core)
    print(f"{given.out}: {size / 2**20:.1f} MiB of at most {MOST_BYTES / 2**20:.0f}")


def table(given: argparse.Namespace) -> None:
    """Write the tables and pictures."""
    from benchmarks.evidence.table import write_table

    for path in write_table(given.results):
        print(f"wrote {path}")


def properties(given: argparse.Namespace) -> None:
    """Write what the data sets of the plan are like."""
    from benchmarks.evidence.plan import read_plan
    from benchmarks.evidence.properties import properties as properties_of
    from benchmarks.evidence.properties import write_properties
    from benchmarks.evidence.work import Place, Work

    work = Work(Place("cpu", given.threads, given.data, given.cache, given.model))
    runs = {p.run.data: p.run for p in read_plan(given.plan).runs if not p.run.noise}
    found = {data: properties_of(work.prepared(run)) for data, run in sorted(runs.items())}
    print(f"wrote {write_properties(found, given.results)}")


def leads(given: argparse.Namespace) -> None:
    """Print how far every way to train is ahead of the baselines."""
    from benchmarks.evidence.results import read_all
    from benchmarks.evidence.summary import summary
    from benchmarks.evidence.timemodel import read_calibrations

    lines = [line for folder in (given.results, *given.more) for line in read_all(folder)]
    print(summary(lines, read_calibrations(given.results), given.figure))


def worker(given: argparse.Namespace) -> None:
    """Serve the process that started this one."""
    from benchmarks.evidence.work import Place
    from benchmarks.evidence.worker import serve

    serve(Place(given.device, given.threads, given.data, given.cache, given.model, given.save_seconds))
