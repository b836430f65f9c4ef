"""Makes benchmarks/results/gpu.md from the predictions and from every results file there is.

python -m gpu.report             # from benchmarks/results/gpu-*.jsonl, whatever machines they come from
python -m gpu.report --which     # which call a session makes that is lent a GPU
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu import figures, predict, records, sources, table
from gpu.records import Record

RESULTS = predict.FILE.parent
PAGE = RESULTS / "gpu.md"
LONG, SHORT = "--deadline 450", "--deadline 120"
MISS = 0.10
NOT_YET = "not measured yet"

# Kernels that need more than the 64 MiB that travel to the GPU machine.
PUBLISHED = """## Peers that were not run

Their wheels are too large to be carried. What their authors published, read in August 2026:

| who | what | figure |
|---|---|---|
| QuACK (media/2025-07-10-membound-sol.md) | softmax, 16,384 x 131,072 fp32, H100 | 3.01 TB/s, 90 % of 3.35 |
| the same | softmax of more than 4,096 classes; torch.compile beside it | about 3 TB/s; about 2 TB/s |
| the same | Liger's Triton softmax, 32,768 and 65,536 classes | 3.0 and 2.0 TB/s |
| Liger's README | CuTe linear cross-entropy, 8,192 x 4,096 x 131,072, H100; with the entropy | 12.25 ms; 12.30 ms |"""


@dataclass(frozen=True)
class Run:
    """One call's results file."""

    name: str
    found: list[Record]

    @property
    def call(self) -> Record:
        return records.last(self.found, "call") or {}

    @property
    def machine(self) -> str:
        return (records.last(self.found, "machine") or {}).get("name", "unknown")

    @property
    def kind(self) -> str | None:
        """Which prediction it is compared with."""
        return next((kind for kind in predict.BANDWIDTH if kind in self.machine), None)

    @property
    def kernels(self) -> str | None:
        return self.call.get("kernels")

    def has_figures(self, kernels: str) -> bool:
        """Whether it timed these kernels on a GPU."""
        return self.call.get("device") == "cuda" and self.kernels == kernels and bool(figures.timings(self.found))


def runs_of(paths: Sequence[Path]) -> list[Run]:
    """The runs on a GPU; a rehearsal's times say nothing."""
    runs = [Run(path.name, records.read(path)) for path in sorted(paths)]
    return [run for run in runs if run.call.get("device") == "cuda"]


def which(runs: Sequence[Run], kernels: str) -> str:
    """The call that a session with a GPU makes next, and why."""
    measured = [run.name for run in runs if run.has_figures(kernels)]
    if measured:
        return f"gpu_check.sh {SHORT} (kernels {kernels} were measured: {', '.join(measured)})"
    return f"gpu_check.sh {LONG} (kernels {kernels} have no figures yet)"


def standing(runs: Sequence[Run], kernels: str) -> str:
    """Which kernels the measured figures of the page are of."""
    measured = list(dict.fromkeys(run.kernels for run in runs if run.kernels and run.has_figures(run.kernels)))
    if kernels in measured:
        return "the present kernels have figures"
    if not measured:
        return "no kernels have figures yet"
    return (
        f"the figures are of older kernels alone ({', '.join(measured)}): the present ones have not run on a GPU, and "
        "benchmarks/README.md says what must be measured again"
    )


def measured_ms(run: Run, line: dict[str, Any]) -> float | None:
    """What a run measured of a predicted line."""
    for timing in figures.timings(run.found):
        same = (timing.task, timing.rows, timing.classes, timing.dtype) == tuple(
            line[key] for key in ("task", "rows", "classes", "dtype")
        )
        if same and not timing.compiled and line["provider"] in timing.ms:
            return timing.ms[line["provider"]]
    return None


def measured_cell(runs: Sequence[Run], line: dict[str, Any], kind: str) -> str:
    """The measured times on one kind of machine, each with how far the prediction was off."""
    cells = []
    for run in runs:
        ms = measured_ms(run, line) if run.kind == kind else None
        if ms is not None:
            off = ms / line["ms"][kind] - 1
            cells.append(f"{ms:.4g} ({off:+.0%}{'!' if abs(off) > MISS else ''})")
    return ", ".join(cells) or NOT_YET


def predictions_table(predicted: dict[str, Any], runs: Sequence[Run]) -> str:
    """Every predicted line with the measured columns."""
    kinds = list(predict.BANDWIDTH)
    heads = ["what", "size", "MB", "instructions a logit"]
    for kind in kinds:
        heads += [f"{kind} predicted ms", "bound by", f"{kind} measured ms"]
    lines = ["| " + " | ".join(heads) + " |", "|---|---|--:|--:|" + "--:|---|--:|" * len(kinds)]
    for line in predicted["predictions"]:
        what = {"fastprune": "el2n", "fastprune all six": "all six scores"}.get(line["provider"], "loss step with el2n")
        cells = [what, f"{line['rows']:,} x {line['classes']:,} {line['dtype']}"]
        cells += [f"{line['bytes'] / 1e6:,.0f}", f"{line['instructions_per_logit']:g}"]
        for kind in kinds:
            cells += [f"{line['ms'][kind]:.4g}", line["bound"][kind], measured_cell(runs, line, kind)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def page(predicted: dict[str, Any], runs: Sequence[Run], kernels: str) -> str:
    """The whole page."""
    stale = "" if predicted["kernels"] == kernels else f" They are of kernels {predicted['kernels']}: make them again."
    rates = ", ".join(f"{name} {rate:,.0f} GB/s" for name, rate in predict.BANDWIDTH.items())
    parts = [
        "# On a GPU",
        "Made by `make gpu-report` from gpu-predictions.json and gpu-*.jsonl beside this file.",
        f"- present kernels: {kernels}\n- measured: {standing(runs, kernels)}\n- next call: {which(runs, kernels)}",
        "## Predicted and measured",
        f"Predictions come from no measurement, but from machine code for sm_{predicted['arch']} by Triton "
        f"{predicted['triton']}: the larger of the bytes over the copy bandwidth ({rates}) and the instructions over "
        f"what {predict.MULTIPROCESSORS} multiprocessors issue at {predicted['clock_ghz']} GHz.{stale} A launch adds "
        "some microseconds, which are not predicted. Measured times are medians, with their distance from the "
        "prediction; `!` marks more than 10 %.",
        predictions_table(predicted, [run for run in runs if run.kernels == predicted["kernels"]]),
    ]
    if not runs:
        parts.append("## Measured\n\nNo GPU has been lent yet: nothing on this page was measured.")
    for run in runs:
        present = "the present kernels" if run.kernels == kernels else f"older kernels, {run.kernels}"
        parts.append(f"## {run.machine}, {run.name}\n\nOf {present}, commit {run.call.get('commit')}.")
        verdicts = [f"| {v.what} | {v.bar} | {v.measured} | {_word(v.holds)} |" for v in figures.verdicts(run.found)]
        parts.append("\n".join(["| what | bar | measured | holds |", "|---|---|---|---|", *verdicts]))
        parts.append("```\n" + table.of(run.found, limit=10**6) + "\n```")
    return "\n\n".join([*parts, PUBLISHED]) + "\n"


def _word(holds: bool | None) -> str:
    return "-" if holds is None else "yes" if holds else "**no**"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--which", action="store_true")
    parser.add_argument("results", nargs="*", type=Path, help="results files; by default all of benchmarks/results")
    parser.add_argument("--out", type=Path, default=PAGE)
    args = parser.parse_args()
    runs = runs_of(args.results or list(RESULTS.glob("gpu-*.jsonl")))
    if args.which:
        print(which(runs, sources.digest()))
        return
    args.out.write_text(page(json.loads(predict.FILE.read_text()), runs, sources.digest()))
    print(f"wrote {args.out} from {len(runs)} results files")


if __name__ == "__main__":
    main()
