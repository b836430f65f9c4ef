"""A call ends in time, and a step that fails or hangs costs only itself."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from gpu import call, plan, records
from gpu.deadline import allowance
from gpu.plan import CLOSING, STEPS, Step

STEP = Step("speed", least=20, limit=90, expected=40, what="")


@pytest.mark.parametrize(
    ("elapsed", "deadline", "seconds"),
    [
        (0, 450, 90),  # its whole limit
        (0, CLOSING + 50, 50),  # what is left
        (0, CLOSING + 20, 20),  # just enough
        (0, CLOSING + 19.9, None),
        (440, 450, None),
    ],
)
def test_a_step_starts_only_if_it_can_end(elapsed: float, deadline: float, seconds: float | None) -> None:
    assert allowance(STEP, elapsed, deadline) == seconds


def test_a_rehearsal_may_take_longer_but_ends_in_time_too() -> None:
    assert allowance(STEP, 0, 3_000, patience=6) == 540
    assert allowance(STEP, 0, CLOSING + 100, patience=6) == 100


@pytest.mark.parametrize(("number", "step"), list(enumerate(STEPS, start=1)), ids=lambda x: getattr(x, "name", ""))
def test_a_steps_own_text_has_its_number_in_the_plan(number: int, step: Step) -> None:
    text = (Path(plan.__file__).parent / "steps" / f"{step.name}.py").read_text(encoding="utf-8")
    assert text.startswith(f'"""Step {number}: ')


def test_the_plan_fits_the_calls_that_the_rule_names() -> None:
    assert [step.name for step in STEPS[:4]] == ["machine", "build", "accuracy", "speed"]
    assert plan.expected_seconds() <= 450
    assert sum(step.expected for step in STEPS[:4]) + CLOSING <= 120
    assert all(step.least <= step.limit and step.expected <= step.limit for step in STEPS)


def test_a_command_that_hangs_is_ended_with_all_it_started(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    started = tmp_path / "pid"
    program = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(started)!r}, 'w').write(str(child.pid))\n"
        "print('before', flush=True)\n"
        "time.sleep(600)"
    )
    assert call.run_bounded([sys.executable, "-c", program], 5, log, dict(os.environ)) is None
    assert log.read_text() == "before\n"
    for _ in range(100):  # the child is no longer ours, so it can only be looked for
        if not Path(f"/proc/{started.read_text()}").exists() or _is_zombie(int(started.read_text())):
            break
        time.sleep(0.05)
    else:
        pytest.fail("what the command started still runs")


def _is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z"


def test_the_exit_status_and_the_last_line_are_the_reason(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("of an earlier step\n")
    start = log.stat().st_size
    assert call.last_line(log, start) == ""
    program = "print('one'); print('two'); raise SystemExit(3)"
    assert call.run_bounded([sys.executable, "-c", program], 60, log, dict(os.environ)) == 3
    assert call.last_line(log, start) == "two"


def test_a_failed_step_costs_no_other(tmp_path: Path, monkeypatch, capsys) -> None:
    """The first fails after a result, the second is right, and for the third no time is left."""
    three = (Step("machine", 1, 9, 1, ""), Step("build", 1, 9, 1, ""), Step("accuracy", 500, 900, 1, ""))
    monkeypatch.setattr(call, "STEPS", three)

    def run_step(step: Step, seconds: float, device: str, out: Path) -> tuple[str, str]:
        records.append(out / records.NAME, "machine", name=f"of {step.name}")
        return ("failed", "exit 1: made up") if step.name == "machine" else ("ok", "")

    monkeypatch.setattr(call, "run_step", run_step)
    assert call.main(["--deadline", "60", "--out", str(tmp_path)]) == 1
    found = records.read(tmp_path / records.NAME)
    assert [(r["step"], r["status"]) for r in records.of_kind(found, "step")] == [
        ("machine", "failed"),
        ("build", "ok"),
        ("accuracy", "skipped"),
    ]
    assert [r["name"] for r in records.of_kind(found, "machine")] == ["of machine", "of build"]
    assert "exit 1: made up" in capsys.readouterr().out
