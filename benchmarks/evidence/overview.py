"""What `plan` prints: runs, examples and core-hours of each block, and how much of it is done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.evidence.plan import Plan, Planned
from benchmarks.evidence.results import finished


def overview(plan: Plan, lines: Iterable[Mapping[str, Any]]) -> str:
    """The table of blocks, and what waits. A run counts as done if any machine kind has a current line of it."""
    lines = list(lines)
    plan = plan.measured(lines)
    done = finished(lines)
    head = f"{'block':38} {'runs':>5} {'done':>5} {'examples':>12} {'core-hours':>10} {'left':>7}"
    rows = [head, "-" * len(head)]
    blocks = list(dict.fromkeys(planned.block for planned in plan.runs))
    for block in sorted(blocks, key=lambda name: min(p.priority for p in plan.runs if p.block == name)):
        rows.append(_row(plan, block, [p for p in plan.runs if p.block == block], done))
    rows.append(_row(plan, "all", plan.runs, done))
    held = [p for p in plan.runs if p.run.method in plan.held_back and p.run.key not in done]
    if held:
        names = ", ".join(sorted({p.run.method for p in held}))
        rows.append(f"\n{len(held)} of these runs are held back until their methods are changed: {names}")
    if plan.waiting:
        waiting = ", ".join(dict.fromkeys(data for _, data in plan.waiting))
        rows.append(f"\nnot counted, as no learning rate is chosen for them yet: the runs on {waiting}")
    rows += _chosen_rates(plan, lines)
    return "\n".join(rows)


def _row(plan: Plan, name: str, runs: Sequence[Planned], done: set[str]) -> str:
    left = [p for p in runs if p.run.key not in done]
    examples = sum(plan.work(p.run)[0] for p in runs)
    hours, rest = (sum(plan.core_seconds(p.run) for p in part) / 3600 for part in (runs, left))
    return f"{name:38} {len(runs):5} {len(runs) - len(left):5} {examples:12,} {hours:10.2f} {rest:7.2f}"


def _chosen_rates(plan: Plan, lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """The results on the validation split of the learning rates that were tried."""
    tried: dict[str, dict[float, float]] = {}
    for line in lines:
        if line["arguments"]["split"] == "validation":
            tried.setdefault(line["arguments"]["data"], {})[line["arguments"]["lr"]] = line["figure"]
    rows = []
    for data, figures in sorted(tried.items()):
        best = max(figures, key=lambda lr: figures[lr])
        shown = ", ".join(f"{lr:g}: {100 * figures[lr]:.1f}" for lr in sorted(figures))
        used = plan.data[data].defaults.get("lr")
        note = "" if used is None else f"; the plan uses {used:g}"
        rows.append(f"learning rates of {data}, validation: {shown}; the best is {best:g}{note}")
    return ["", *rows] if rows else []
