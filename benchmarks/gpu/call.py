"""Runs the steps of a call within its deadline. What one step does to itself, the others do not feel.

    python -m gpu.call [--deadline SECONDS] [--device cpu] [--step NAME ...]

Each step is a process. Its output goes to the log, its results to the results file, and this program adds how the
step ended. The table comes last, also where steps failed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from gpu import records, sources, table
from gpu.deadline import allowance
from gpu.plan import REHEARSAL_PATIENCE, STEPS, Step

LOG = "log.txt"


def run_bounded(command: Sequence[str], seconds: float, log: Path, env: dict[str, str]) -> int | None:
    """The exit status of a command whose output the log gets; None if it was killed after `seconds`."""
    with open(log, "ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env, start_new_session=True
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            # Whatever the step left running holds memory and the device.
            _end_group(process)
            os.fsync(output.fileno())


def _end_group(process: subprocess.Popen[bytes]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
            process.wait(2)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def last_line(log: Path, start: int) -> str:
    """The last line of the log after `start` bytes, shortened: the reason of most failures."""
    with open(log, "rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")[:200]


def run_step(step: Step, seconds: float, device: str, out: Path) -> tuple[str, str]:
    """(status, why) of one step."""
    results, log = out / records.NAME, out / LOG
    with open(log, "a") as file:
        file.write(f"\n== {step.name}, at most {seconds:.0f} s\n")
    start = log.stat().st_size
    env = os.environ | {"PYTHONUNBUFFERED": "1", "GPU_STEP_SECONDS": str(seconds)}
    command = [sys.executable, "-m", "gpu.step", step.name, "--device", device, "--results", str(results)]
    status = run_bounded(command, seconds, log, env)
    if status == 0:
        return "ok", ""
    why = f"killed after {seconds:.0f} s" if status is None else f"exit {status}"
    return "killed" if status is None else "failed", f"{why}: {last_line(log, start)}"


def main(arguments: Sequence[str] | None = None) -> int:
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deadline", type=float, default=450.0, help="seconds for the whole call")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu rehearses on toy sizes")
    parser.add_argument("--step", action="append", choices=[s.name for s in STEPS], help="only this one (repeatable)")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "runs/gpu")))
    args = parser.parse_args(arguments)

    args.out.mkdir(parents=True, exist_ok=True)
    results = args.out / records.NAME
    records.append(
        results,
        "call",
        deadline=args.deadline,
        device=args.device,
        commit=sources.carried_commit() if args.device == "cuda" else sources.commit(),
        kernels=sources.digest(),
        expected={s.name: s.expected for s in STEPS},
    )
    broken = False
    patience = REHEARSAL_PATIENCE if args.device == "cpu" else 1.0
    for step in STEPS:
        if args.step and step.name not in args.step:
            continue
        at = time.monotonic() - began
        seconds = allowance(step, at, args.deadline, patience)
        if seconds is None:
            status, why = "skipped", f"{args.deadline - at:.0f} s were left, {step.least:.0f} s and the table need more"
        else:
            status, why = run_step(step, seconds, args.device, args.out)
        took = time.monotonic() - began - at
        records.append(results, "step", step=step.name, status=status, why=why, began=round(at, 2), seconds=took)
        print(f"{at:6.1f} s  {step.name}: {status} in {took:.1f} s {why}", flush=True)
        broken |= status in ("failed", "killed")
    print(table.of(records.read(results)))
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
