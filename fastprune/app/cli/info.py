"""``fastprune info``: versions, devices and kernels in use."""

from __future__ import annotations

import argparse
from typing import Any


def add(commands: Any) -> None:
    """Add the command's grammar."""
    info = commands.add_parser("info", help="versions, devices and kernels in use")
    info.set_defaults(command=run)


def run(arguments: argparse.Namespace) -> None:
    """Run ``fastprune info``."""
    import platform

    import numpy
    import torch

    import fastprune
    from fastprune import _core

    rows = {
        "fastprune": fastprune.__version__,
        "python": platform.python_version(),
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads",
        "numpy": numpy.__version__,
        "triton": _version("triton"),
        "transformers": _version("transformers"),
        "CPU scores": f"C++ kernels for {_core.instruction_set()}, of {', '.join(_core.instruction_sets())}",
        "CUDA": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }
    for name, value in rows.items():
        print(f"{name:<14}{value}")


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
