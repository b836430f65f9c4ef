"""`python -m benchmarks.evidence`: plan, run, pause, continue, stop, merge, and make tables from the results."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.evidence import jobs

Job = Callable[[argparse.Namespace], None]
ROOT = Path(__file__).parents[2]


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and do the job."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        given.job(given)
    except (RuntimeError, ValueError) as error:
        raise SystemExit(f"evidence: {error}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence", description=__doc__)
    names = parser.add_subparsers(required=True, metavar="job")

    job = _job(names, "plan", jobs.plan, "print runs, examples and core-hours of each block, and what is left")
    _plan_option(job)
    _results_option(job)

    job = _job(names, "run", jobs.run, "do the most useful unfinished runs")
    _plan_option(job)
    _results_option(job)
    _place_options(job)
    job.add_argument("--workers", default="1", help="a number, or auto: add one while examples/s grow by a tenth")
    job.add_argument("--deadline", type=float, help="seconds after which nothing is left running")
    job.add_argument("--nice", type=int, default=0, help="19 gives way to everything else")
    job.add_argument("--only", help="a part of the names of the blocks to take runs from")
    job.add_argument("--sets", nargs="+", metavar="DATA", help="these data sets alone")
    job.add_argument("--most", type=int, help="how many runs to make at most")
    job.add_argument("--known", type=Path, help="a folder of results files to read beside those in --results")

    for name, signals, what in (
        ("pause", (signal.SIGSTOP,), "halt the runner and its workers, before you measure something"),
        ("continue", (signal.SIGCONT,), "let them go on"),
        ("stop", (signal.SIGCONT, signal.SIGTERM), "end them; long runs go on from their last saved epoch"),
    ):
        job = _job(names, name, _telling(signals), what)
        _cache_option(job)

    job = _job(names, "merge", jobs.merge, "add the lines of other results files, such as a lent GPU's")
    job.add_argument("files", nargs="+", type=Path)
    _results_option(job)

    job = _job(names, "calibrate", jobs.calibrate, "measure this machine's seconds per padded token; it must be idle")
    _plan_option(job)
    _results_option(job)
    _place_options(job)
    job.add_argument("--sets", nargs="+", metavar="DATA", help="these data sets alone")
    job.add_argument("--busy", action="store_true", help="measure although other work is running")

    job = _job(
        names, "confirm", jobs.confirm, "compare three whole runs with their computed time; the machine must be idle"
    )
    _results_option(job)
    _plan_option(job)
    _place_options(job)
    job.add_argument("--busy", action="store_true", help="measure although other work is running")

    job = _job(names, "pack", jobs.pack, "make a folder with everything that a lent machine without a registry needs")
    _plan_option(job)
    _results_option(job)
    _place_options(job)
    job.add_argument("--out", type=Path, default=ROOT / "runs" / "evidence-pack", help="git ignores the default")
    job.add_argument("--core", type=Path, nargs="+", default=[], help="cores compiled for the machine's Python")

    job = _job(names, "properties", jobs.properties, "write what the data sets are like, as numbers")
    _plan_option(job)
    _results_option(job)
    _place_options(job)

    job = _job(names, "table", jobs.table, "write the tables and pictures beside the results")
    _results_option(job)

    job = _job(names, "leads", jobs.leads, "print how far every way to train is ahead of the baselines")
    _results_option(job)
    job.add_argument("--more", nargs="*", type=Path, default=[], help="further folders of results files")
    job.add_argument(
        "--figure", choices=("figure", "validation"), default="figure", help="rules are designed on the latter"
    )

    job = _job(names, "worker", jobs.worker, "used by run: do the runs that arrive on standard input")
    _place_options(job)
    return parser


def _job(names: Any, name: str, function: Job, text: str) -> argparse.ArgumentParser:
    job: argparse.ArgumentParser = names.add_parser(name, help=text, description=text)
    job.set_defaults(job=function)
    return job


def _telling(signals: tuple[signal.Signals, ...]) -> Job:
    return lambda given: jobs.tell(given.cache, signals)


def _plan_option(job: argparse.ArgumentParser) -> None:
    # The name is not taken from `plan`, because its import takes seconds and `pause` must answer at once.
    job.add_argument("--plan", type=Path, default=Path(__file__).with_name("plan.toml"), help="the plan file")


def _results_option(job: argparse.ArgumentParser) -> None:
    default = ROOT / "benchmarks" / "results" / "evidence"
    job.add_argument("--results", type=Path, default=default, help="the folder of the results files")


def _cache_option(job: argparse.ArgumentParser) -> None:
    job.add_argument("--cache", type=Path, default=ROOT / "runs" / "evidence", help="token tables and states of runs")


def _place_options(job: argparse.ArgumentParser) -> None:
    _cache_option(job)
    data = Path(os.environ.get("EVIDENCE_DATA", "../shared/data"))
    job.add_argument("--data", type=Path, default=data, help="the data sets' folder (or EVIDENCE_DATA)")
    job.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    job.add_argument("--threads", type=int, default=1, help="of each worker")
    job.add_argument("--model", type=Path, help="a model folder in place of the packaged MiniLM")
    job.add_argument("--save-seconds", type=float, default=60.0, help="CPU seconds between saved states of a run")


if __name__ == "__main__":
    main()
