"""Runs in worker processes: one line each, none from a killed one, nothing after the deadline."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
from helpers import forked
from helpers.made_up_lines import line_of
from helpers.tiny_runs import tiny_run

from benchmarks.evidence.__main__ import main
from benchmarks.evidence.control import only_runner, runner
from benchmarks.evidence.machine import machine_kind
from benchmarks.evidence.plan import Planned, read_plan
from benchmarks.evidence.results import file_of, read_lines
from benchmarks.evidence.runner import Runner
from benchmarks.evidence.schedule import Growth
from benchmarks.evidence.work import Place, Work

ROOT = Path(__file__).parents[2]
RUNS = [tiny_run("full"), tiny_run("el2n-free", budget=0.6), tiny_run("rs2", budget=0.6, warmup_epochs=0)]
PLANNED = [Planned(run, "b", 1.0, i, 0) for i, run in enumerate(RUNS)]
PATIENCE = 120.0

# A worker that answers at once with a line that holds the key alone.  It imports nothing that takes time.
QUICK = f"""
import json, sys
keys = {dict((json.dumps(run.arguments), run.key) for run in RUNS)}
print(json.dumps({{"ready": ""}}), flush=True)
for text in sys.stdin:
    arguments = json.loads(text)
    if arguments["method"] == "rs2":
        print(json.dumps({{"error": "it diverged"}}), flush=True)
        continue
    print(json.dumps({{"examples": 100}}), flush=True)
    key = keys[json.dumps(arguments)]
    print(json.dumps({{"line": {{"key": key, "label": "", "arguments": arguments, "metric": "m", "figure": 1.0}}}}))
    sys.stdout.flush()
"""
# A worker that takes a run and never ends it.
ENDLESS = """
import json, sys, time
print(json.dumps({"ready": ""}), flush=True)
sys.stdin.readline()
print(json.dumps({"examples": 1}), flush=True)
time.sleep(1e6)
"""
DYING = "import sys; sys.stdin.readline(); sys.exit(1)"


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def until(true: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while not (found := true()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_every_run_is_done_once_and_a_failed_one_is_named(workers):
    lines: list[Any] = []
    growth = Growth(workers)
    growth.workers = workers
    session = Runner(program(QUICK), PLANNED, lines.append, growth).run_all()
    assert sorted(line["key"] for line in lines) == sorted(run.key for run in RUNS[:2])
    assert session.failed == {RUNS[2].key: "it diverged"}
    assert sorted(session.done) == sorted(run.key for run in RUNS[:2])


def test_nothing_is_left_running_at_the_deadline():
    lines: list[Any] = []
    under_test = Runner(program(ENDLESS), PLANNED, lines.append, Growth(1), deadline=2.0)
    killed: list[int] = []
    dismiss = under_test._dismiss

    def watched(child: Any) -> None:
        dismiss(child)
        killed.append(child.process.returncode)

    under_test._dismiss = watched  # type: ignore[method-assign]
    session = under_test.run_all()
    assert not lines and not session.done and not under_test.children
    assert killed == [-signal.SIGKILL]


def test_a_run_that_would_pass_the_deadline_is_not_begun():
    lines: list[Any] = []
    now = [0.0]

    def clock() -> float:
        now[0] += 0.01
        return now[0]

    # The first run has 100 examples, and the second is said to have a million times as many.
    expected = {RUNS[0].key: 100, RUNS[1].key: 10**8}
    under_test = Runner(
        program(QUICK), PLANNED[:2], lines.append, Growth(1), deadline=10.0, expected=expected, clock=clock
    )
    session = under_test.run_all()
    assert session.done == [RUNS[0].key] and not session.failed
    assert under_test.left == [PLANNED[1]]


def test_before_a_rate_is_measured_the_guessed_seconds_count():
    lines: list[Any] = []
    guessed = {RUNS[0].key: 1e6, RUNS[1].key: 0.1}
    session = Runner(program(QUICK), PLANNED[:2], lines.append, Growth(1), deadline=1e5, guessed=guessed).run_all()
    # The second run comes first; its rate then says that the other fits, too.
    assert session.done == [RUNS[1].key, RUNS[0].key]


def test_workers_that_die_are_replaced_only_so_often():
    lines: list[Any] = []
    many = [Planned(tiny_run("full", seed=seed), "b", 1.0, seed, 0) for seed in range(9)]
    session = Runner(program(DYING), many, lines.append, Growth(1)).run_all()
    assert not lines and len(session.failed) == 3


# --- the command, with real workers --------------------------------------------------------------

PLAN = """
[common]
layers = [0, 1]
batch_size = 16
precision = "fp32"
[data.atis]
train = 81
examples_per_second = 100
lr = 3e-3
smoothing = "ema"
[[block]]
name = "tiny"
data = ["atis"]
epochs = EPOCHS
seeds = [0]
priority = 1
runs = [{ method = "el2n", budgets = [0.6] }]
"""


class Command:
    """`python -m benchmarks.evidence` over the tiny data set, in folders of its own."""

    def __init__(self, folder: Path, data: Path, model: Path, epochs: int) -> None:
        folder.mkdir()
        (folder / "plan.toml").write_text(PLAN.replace("EPOCHS", str(epochs)))
        self.cache, self.results = folder / "cache", folder / "results"
        self.run = ["run", "--plan", str(folder / "plan.toml"), "--results", str(self.results), "--data", str(data)]
        self.run += ["--cache", str(self.cache), "--model", str(model), "--save-seconds", "0"]

    def start(self) -> ForkServerProcess:
        """The runner is a copy that has imported everything.  Its worker is a new Python."""
        return forked.start(main, self.run, cwd=ROOT)

    def tell(self, what: str) -> None:
        main([what, "--cache", str(self.cache)])

    def lines(self) -> list[dict[str, Any]]:
        return read_lines(file_of(machine_kind("cpu"), self.results))

    def states(self) -> list[Path]:
        return list((self.cache / "states").glob("*.pt"))


def what_was_trained(line: dict[str, Any]) -> Any:
    counts = {name: line["counts"][name] for name in ("train", "score")}
    return line["key"], line["epochs"], counts


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@pytest.mark.usefixtures("one_thread", "own_random_state")
def test_a_run_is_paused_goes_on_is_killed_and_ends_with_the_same_result(data_folder, tiny_model, tmp_path):
    command = Command(tmp_path / "killed", data_folder, tiny_model, epochs=40)
    process = command.start()
    until(command.states)
    worker = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    command.tell("pause")
    until(lambda: _state(process.pid) == "T" and _state(worker) == "T")
    command.tell("continue")
    until(lambda: _state(process.pid) != "T" and _state(worker) != "T")
    process.kill()  # the runner alone, which takes its worker with it
    process.join(PATIENCE)
    until(lambda: _state(worker) == "Z")
    assert not command.lines() and runner(command.cache) is None
    assert command.states(), "nothing is left to go on from"

    process = command.start()
    process.join(PATIENCE)
    assert process.exitcode == 0
    (line,) = command.lines()
    (planned,) = read_plan(tmp_path / "killed" / "plan.toml").runs
    undisturbed = Work(Place("cpu", 1, data_folder, tmp_path / "cache", tiny_model)).line(planned.run)
    assert what_was_trained(line) == what_was_trained(undisturbed)
    assert len(line["epochs"]) == 40
    assert not command.states(), "the state of a finished run was left"
    _check_line(line)


def _check_line(line: dict[str, Any]) -> None:
    """Everything that a line must say is there."""
    assert set(line_of(tiny_run("full"))) <= set(line)
    assert line["figure"] == line["epochs"][-1]["exact_match"]
    assert 0.0 <= line["validation"] <= 1.0
    assert set(line["answers"]) <= {"texts", "right", "positive"} and line["answers"]["right"]
    assert {"kept", "threshold", "churn"} <= set(line["epochs"][0])
    assert line["machine"]["threads"] == 1 and line["machine"]["precision"] == "fp32"
    assert line["commits"] and line["versions"]["torch"]
    assert line["counts"]["cpu_seconds"]["train"] > 0 and line["counts"]["cpu_seconds"]["score"] > 0


def test_only_one_runner_works_in_a_folder(tmp_path):
    holder = f"""
import sys
from pathlib import Path
from benchmarks.evidence.control import only_runner
with only_runner(Path({str(tmp_path)!r})):
    print("held", flush=True)
    sys.stdin.read()
"""
    process = subprocess.Popen(program(holder), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == b"held\n"
    assert runner(tmp_path) == process.pid
    with pytest.raises(RuntimeError, match="a runner works in"), only_runner(tmp_path):
        pass
    process.stdin.close()
    process.wait(PATIENCE)
    process.stdout.close()
    assert runner(tmp_path) is None
