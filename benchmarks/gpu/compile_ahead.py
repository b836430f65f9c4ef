"""Finds the variants that the steps launch, compiles them all in parallel, and says what each step needs.

python -m gpu.compile_ahead --arch 90 [--workers 16] [--toy] [--results FILE --step NAME]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from gpu import records
from gpu.variants import variants


def compile_all(arch: int, workers: int, toy: bool, python: str = sys.executable) -> dict[str, Any]:
    """The report of `compile_variants`, run in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        wanted, report = Path(folder) / "variants.json", Path(folder) / "report.json"
        wanted.write_text(json.dumps(variants(arch, toy)))
        command = [python, "-m", "gpu.compile_variants", str(wanted)]
        subprocess.run([*command, "--arch", str(arch), "--workers", str(workers), "--report", str(report)], check=True)
        return json.loads(report.read_text())


def by_step(done: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each step: how many variants, found in the cache or failed, and the seconds of all of them one by one."""
    steps: dict[str, dict[str, Any]] = defaultdict(
        lambda: {"variants": 0, "hits": 0, "failed": 0, "seconds": 0.0, "assembler": 0.0}
    )
    for variant in done:
        for step in variant["steps"]:
            found = steps[step]
            found["variants"] += 1
            found["hits"] += bool(variant.get("hit"))
            found["failed"] += "failed" in variant
            found["seconds"] += variant.get("seconds", 0.0)
            found["assembler"] += variant.get("assembler", 0.0)
    return dict(steps)


def table(report: dict[str, Any]) -> str:
    """What each step compiles."""
    lines = [
        f"{len(report['variants'])} variants for sm_{report['arch']} by Triton {report['triton']} in "
        f"{report['wall']:.1f} s on {report['workers']} processes",
        f"{'step':<12}{'variants':>9}{'in cache':>9}{'failed':>8}{'compile s':>11}{'of it ptxas s':>15}",
    ]
    for step, found in by_step(report["variants"]).items():
        lines.append(
            f"{step:<12}{found['variants']:>9}{found['hits']:>9}{found['failed']:>8}{found['seconds']:>11.1f}"
            f"{found['assembler']:>15.1f}"
        )
    slow = sorted(report["variants"], key=lambda v: -v.get("seconds", 0.0))[:3]
    lines.append("slowest: " + ", ".join(f"{v['kernel']} {v.get('seconds', 0.0):.1f} s" for v in slow))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", type=int, default=90)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--toy", action="store_true", help="the rehearsal's sizes")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--step", default="build")
    args = parser.parse_args()
    report = compile_all(args.arch, args.workers, args.toy)
    print(table(report))
    failed = [v for v in report["variants"] if "failed" in v]
    for variant in failed:
        print(f"{variant['kernel']}: {variant['failed']}")
    if args.results:
        head = {key: report[key] for key in ("triton", "arch", "workers", "wall")}
        launchers = sorted({str(v.get("launcher")) for v in report["variants"] if isinstance(v.get("launcher"), str)})
        records.append(
            args.results,
            "compiled",
            step=args.step,
            **head,
            variants=len(report["variants"]),
            hits=sum(bool(v.get("hit")) for v in report["variants"]),
            failed=[f"{v['kernel']}: {v['failed']}" for v in failed],
            launchers=launchers,
            by_step=by_step(report["variants"]),
        )
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
