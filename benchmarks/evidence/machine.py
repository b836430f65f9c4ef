"""Where a run was made: the machine kind, its software and the commit."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import fastprune
from benchmarks.measure import machine_kind, processor_name, version
from fastprune import _core

ROOT = Path(__file__).parents[2]
COMMIT_FILE = "COMMIT"
"""This file names the commit of the code in a folder without git."""


def machine(device: str, threads: int, precision: str) -> dict[str, Any]:
    """The facts that two runs must share before their times are compared."""
    return {
        "kind": machine_kind(device),
        "device": torch.cuda.get_device_name() if device == "cuda" else processor_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "precision": precision,
        "instruction_set": _core.instruction_set(),
    }


def versions() -> dict[str, str | None]:
    """The software that a result depends on."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "numpy": version("numpy"),
        "fastprune": fastprune.__version__,
    }


def commit() -> str:
    """The commit of the code, followed by "+" if the code differs from it, or "unknown"."""
    recorded = ROOT / COMMIT_FILE
    if recorded.is_file():
        return recorded.read_text().strip()
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git("status", "--porcelain", "--", *CODE) else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


CODE = ("fastprune", "csrc", "benchmarks/evidence", "benchmarks/measure.py")
"""What a result depends on, relative to the root."""


def _git(*arguments: str) -> str:
    result = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    return result.stdout.strip()
