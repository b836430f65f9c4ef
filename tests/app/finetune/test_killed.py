"""Runs killed with SIGKILL at random points and resumed end as if nothing had happened.

``make soak`` does the same at more points: FASTPRUNE_KILLS says how many, FASTPRUNE_SEED from where they are drawn.
"""

import json
import os
import random
import shutil
import signal
import sys
import time

import pyarrow.parquet as parquet
import pytest
from helpers import forked
from helpers.without_picture import leave_out_the_picture

KILLS = int(os.environ.get("FASTPRUNE_KILLS", "3"))
SEED = int(os.environ.get("FASTPRUNE_SEED", "0"))


def command(arguments):
    """What a child process does: the command line."""
    from fastprune.app.cli import main

    os.environ["HF_HUB_OFFLINE"] = "1"
    leave_out_the_picture(pytest.MonkeyPatch())
    sys.exit(main(arguments))


def start(arguments, log):
    return forked.start(command, [str(a) for a in arguments], log=log)


def stretches(log) -> int:
    """How many epochs the run says it has finished."""
    return log.read_text().count(" ex/s") if log.exists() else 0


def kill(arguments, log, after: int, delay: float) -> int:
    """Start the command, and kill it ``delay`` seconds after ``after`` more stretches. Returns its exit status."""
    process, wanted = start(arguments, log), stretches(log) + after
    while process.is_alive() and stretches(log) < wanted:
        time.sleep(0.002)
    time.sleep(delay)
    process.kill()
    process.join()
    return process.exitcode


def finish(arguments, log):
    process = start(arguments, log)
    process.join()
    assert process.exitcode == 0, log.read_text()


def left_by(folder) -> dict:
    """Everything of a run that may not depend on the clock, bit by bit."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    dynamics = folder.parent / f"{folder.name}-dynamics"
    return {
        "files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*")),
        "metrics": [{k: v for k, v in row.items() if not k.endswith("seconds")} for row in rows],
        "scores": parquet.read_table(folder / "scores.parquet").to_pylist(),
        "data map": parquet.read_table(folder / "data_map.parquet").to_pylist(),
        "model": (folder / "model" / "model.safetensors").read_bytes(),
        "classes": (folder / "classes.json").read_bytes(),
        "dynamics": {str(p.relative_to(dynamics)): p.read_bytes() for p in dynamics.rglob("*") if p.is_file()},
    }


@pytest.fixture(scope="module")
def job(joint_folder, tiny_model, tmp_path_factory):
    """(arguments but for the folders, where folders go, what the unkilled run left, its stretches, seconds of one)."""
    arguments = [
        "finetune", "--data", joint_folder, "--model", tiny_model, "--precision", "fp32", "--lr", "3e-3", "--epochs", 4,
        "--cycle-epochs", 1, "--batch-size", 8, "--method", "el2n", "infobatch", "cartography",
    ]  # fmt: skip
    base = tmp_path_factory.mktemp("killed")
    log = base / "whole.log"
    process = start([*arguments, "--out", base / "whole", "--dynamics", base / "whole-dynamics"], log)
    while process.is_alive() and not stretches(log):
        time.sleep(0.002)
    began = time.perf_counter()
    process.join()
    seconds = time.perf_counter() - began
    assert process.exitcode == 0, log.read_text()
    whole = left_by(base / "whole")
    assert len(whole["metrics"]) == 16 and len(whole["dynamics"]) == 16
    total = stretches(log)
    assert total == 16, "an epoch each"
    return arguments, base, whole, total, seconds / total


@pytest.mark.parametrize("point", range(KILLS))
def test_a_run_killed_anywhere_resumes_to_the_same_bits(job, point):
    arguments, base, whole, total, seconds = job
    draw = random.Random(f"{SEED}, {point}")
    folder, log = base / f"run{point}", base / f"run{point}.log"
    arguments = [*arguments, "--out", folder, "--dynamics", base / f"run{point}-dynamics"]
    # Points in equal parts of the run, so that few of them cover all of it.
    after = int(total * draw.uniform(point, point + 1) / KILLS)
    delay = draw.uniform(0, 2 * seconds)
    while kill(arguments, log, after, delay) != -signal.SIGKILL:
        # It ended first: a machine that is now faster than it was.
        shutil.rmtree(folder)
        shutil.rmtree(base / f"{folder.name}-dynamics")
        delay /= 2
    begun = (folder / "config.json").is_file()
    resume = ["finetune", "--out", folder, "--resume"] if begun else arguments
    if point % 2:
        kill(resume, log, draw.randrange(1, 4), draw.uniform(0, 2 * seconds))
        resume = ["finetune", "--out", folder, "--resume"]
    if not (folder / "summary.json").is_file() or (folder / "checkpoint").is_dir():
        finish(resume, log)
    found = left_by(folder)
    for part in whole:
        assert found[part] == whole[part], part


def test_resuming_a_run_that_has_ended_says_so(job):
    _, base, *_ = job
    process = start(["finetune", "--out", base / "whole", "--resume"], base / "again.log")
    process.join()
    assert process.exitcode == 2
    assert "has ended" in (base / "again.log").read_text()
