"""Step 2: the extension, and every kernel variant of steps 3 to 6, compiled in parallel.

Both may have been carried. An extension built elsewhere is tried first; a Triton cache made elsewhere is put in place
and counts for what it is: variants found in it are not compiled again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from gpu import carry, records, sources
from gpu.step import Context


def extension() -> str:
    """Make the extension be there: how it came."""
    if carry.install_core():
        return "carried"
    if carry.core_loads():  # an earlier call on the same machine built it
        return "was there"
    jobs = {"FASTPRUNE_BUILD_JOBS": str(os.cpu_count() or 1)}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=sources.ROOT, env=os.environ | jobs)
    return "built"


def compile_kernels(context: Context) -> None:
    """A process of its own, in which Triton is not the interpreter and CUDA is not initialised."""
    machine = records.last(context.read(), "machine") or {}
    major, minor = machine.get("capability", (9, 0))
    arguments = ["--arch", str(10 * major + minor), "--results", str(context.results), "--step", context.step]
    if context.rehearsal:
        arguments += ["--workers", "2", "--toy"]
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-m", "gpu.compile_ahead", *arguments], env=env, check=True)


def run(context: Context) -> None:
    if not carry.FOLDER.exists():
        context.record("note", text="the folder .gpu was not carried: make gpu-carry, and name it in carry")
    carry.install_cache()
    start = time.monotonic()
    how = extension()
    context.record("extension", how=how, loads=carry.core_loads(), seconds=time.monotonic() - start)
    compile_kernels(context)
