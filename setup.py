"""Builds the C++ core `fastprune._core`; everything else is in pyproject.toml."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension
from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, CompileError, ExecError

# No -march=native: a wheel must run on every machine of its platform. No contraction to fused
# multiply-adds, so that results do not depend on the compiler; nobody looks at errno or at floating-point
# exceptions, which frees loops to be vectorised. -g0 keeps the wheel small.
FLAGS = "-std=c++17 -O3 -g0 -pthread -ffp-contract=off -fno-math-errno -fno-trapping-math -Wall -Wextra".split()

# `make sanitize` builds with FASTPRUNE_SANITIZE=address,undefined.
SANITIZE = os.environ.get("FASTPRUNE_SANITIZE")
if SANITIZE:
    FLAGS += [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-O1", "-g1"]

NO_COMPILER = (
    "fastprune needs a C++17 compiler (g++ or clang++) to build its core, and none that works was "
    "found: on Debian/Ubuntu run 'apt-get install g++', on Fedora 'dnf install gcc-c++', on macOS "
    "'xcode-select --install'."
)
NO_HEADERS = (
    "fastprune needs Python's C headers (Python.h) to build its core, and the compiler did not find "
    "them: on Debian/Ubuntu run 'apt-get install python3-dev', on Fedora 'dnf install python3-devel'."
)


class BuildCore(build_ext):
    """build_ext that says in one sentence what a machine without build tools is missing."""

    def build_extensions(self) -> None:
        """Build, once a compiler and Python's headers have been tried."""
        self._probe("#include <string_view>\nstd::string_view probe;\n", NO_COMPILER)
        self._probe("#include <Python.h>\n", NO_HEADERS)
        super().build_extensions()

    def _probe(self, source: str, complaint: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "probe.cpp"
            path.write_text(source)
            try:
                self.compiler.compile([str(path)], output_dir=folder, extra_postargs=["-std=c++17"])
            except (CCompilerError, CompileError, ExecError):
                raise SystemExit(complaint) from None


# FASTPRUNE_BUILD_JOBS=16 compiles so many files at once; one after the other without it.
ParallelCompile("FASTPRUNE_BUILD_JOBS", default=1).install()

setup(
    ext_modules=[
        Pybind11Extension(
            "fastprune._core",
            sources=[str(path) for path in sorted(Path("csrc").rglob("*.cpp"))],
            depends=[str(path) for path in sorted(Path("csrc").rglob("*.h"))],
            include_dirs=["csrc"],
            extra_compile_args=FLAGS,
            extra_link_args=(["-pthread"] if sys.platform.startswith("linux") else [])
            + ([f"-fsanitize={SANITIZE}"] if SANITIZE else []),
        )
    ],
    cmdclass={"build_ext": BuildCore},
)
