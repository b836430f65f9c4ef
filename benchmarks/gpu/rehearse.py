"""The whole call without a GPU, and what can be held against it: `make gpu-rehearsal`.

    python -m gpu.rehearse

1. Every kernel variant that the steps need is compiled for sm_90, and a fresh process finds it again.
2. The functions of PyTorch that are called are in the GPU machine's release.
3. Every step runs on toy sizes, the kernels in Triton's interpreter.
4. The run left few enough files, no step failed, every case of the accuracy step holds, and the table is short enough.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from gpu import plan, records
from gpu.sources import ROOT

# What comes back from the GPU machine.
MOST_FILES, MOST_BYTES, MOST_CHARACTERS = 8, 16 * 2**20, 10_000
DEADLINE = 3_000


def complaints(files: Iterable[tuple[str, int]], found: list[records.Record], output: str) -> list[str]:
    """What a run does wrong.

    Args:
        files: (path below the output folder, bytes) of each file that it left.
        found: its results.
        output: what it printed.
    """
    wrong = []
    files = list(files)
    if len(files) > MOST_FILES:
        wrong.append(f"{len(files)} files, of which {MOST_FILES} would come back")
    wrong += [f"{name} has {size} bytes" for name, size in files if size > MOST_BYTES]
    wrong += [f"{name} would not come back" for name, _ in files if not re.fullmatch(r"([\w.-]+/){0,2}[\w.-]+", name)]
    ended = {r["step"]: r for r in records.of_kind(found, "step")}
    for step in plan.STEPS:
        record = ended.get(step.name)
        if record is None or record["status"] != "ok":
            wrong.append(f"step {step.name}: {record['status'] + ' ' + record['why'] if record else 'never came'}")
    wrong += [f"accuracy, {r['case']}: {r}" for r in records.of_kind(found, "accuracy") if not r["ok"]]
    for r in records.of_kind(found, "speed") + records.of_kind(found, "selection"):
        wrong += [f"{r['step']}: {name} failed: {ms}" for name, ms in r["ms"].items() if isinstance(ms, str)]
    wrong += [f"compiled by torch: {r['error']}" for r in records.of_kind(found, "compiled by torch") if "error" in r]
    wrong += [f"compilation: {r['failed']}" for r in records.of_kind(found, "compiled") if r["failed"]]
    wrong += [r["text"] for r in records.of_kind(found, "note") if "no time left" in r["text"]]
    if len(output) > MOST_CHARACTERS:
        wrong.append(f"{len(output)} characters were printed, of which {MOST_CHARACTERS} are sure to come back")
    return wrong


def ahead_of_time() -> list[str]:
    """Compile the real sizes for the GPU machine, then find them again."""
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    with tempfile.TemporaryDirectory() as cache:
        env["TRITON_CACHE_DIR"] = cache
        for module in ("gpu.compile_ahead", "gpu.relaunch"):
            if subprocess.run([sys.executable, "-m", module, "--arch", "90"], env=env).returncode:
                return [f"{module} failed"]
    return []


def rehearsal() -> list[str]:
    """The call itself."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        run = subprocess.run(
            ["bash", "benchmarks/gpu_check.sh", "--device", "cpu", "--deadline", str(DEADLINE)],
            cwd=ROOT,
            env=os.environ | {"OUT": name, "PYTHON": sys.executable},
            capture_output=True,
            text=True,
        )
        print(run.stdout, run.stderr, sep="\n")
        files = [(str(p.relative_to(out)), p.stat().st_size) for p in out.rglob("*") if p.is_file()]
        wrong = complaints(files, records.read(out / records.NAME), run.stdout)
        if wrong:
            print((out / "log.txt").read_text()[-6_000:])
        print(f"{len(files)} files: {', '.join(f'{n} ({size:,} bytes)' for n, size in files)}")
        return wrong + ([f"exit {run.returncode}"] if run.returncode and not wrong else [])


def main() -> None:
    print(plan.as_table() + "\n", flush=True)
    wrong = ahead_of_time()
    if subprocess.run([sys.executable, "-m", "gpu.torch_functions"]).returncode:
        wrong.append("a function that PyTorch 2.11 may not have is called")
    wrong += rehearsal()
    for complaint in wrong:
        print(f"WRONG: {complaint}")
    print("rehearsal: " + (f"{len(wrong)} things are wrong" if wrong else "all steps ran, nothing is wrong"))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
