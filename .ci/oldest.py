"""Prints constraints for pip: the oldest version of every package that pyproject.toml claims to work with.

"package>=1.2" becomes "package==1.2.*", the oldest series with its latest fix.  A version of three parts stays exact.
Tools that only look at the source are left out: they need no old version, and old ones see other things.

    python .ci/oldest.py > constraints.txt
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("hf", "lightning", "report", "demo", "test")
TOOLS = {"ruff", "mypy", "setuptools", "pybind11"}


def requirements(project: Path = ROOT / "pyproject.toml") -> list[str]:
    """Every requirement of the package and of the extras that the tests need."""
    table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    extras = table["optional-dependencies"]
    return [*table["dependencies"], *(line for extra in EXTRAS for line in extras[extra])]


def constraints(lines: Iterable[str]) -> list[str]:
    """A constraint for each requirement with a lower bound, sorted, each once.

    >>> constraints(["numpy>=1.26", "rich>=13", "seqeval>=1.2.2", "ruff>=0.6", "own[extra]", "triton>=3.2; os == 'x'"])
    ['numpy==1.26.*', 'rich==13.0.*', 'seqeval==1.2.2', 'triton==3.2.*']
    """
    found = set()
    for line in lines:
        match = re.match(r"([\w.-]+)(?:\[[^]]*\])?>=([\d.]+)", line)
        if match and match[1] not in TOOLS:
            name, version = match.groups()
            parts = version.count(".") + 1
            found.add(f"{name}=={version}" + {1: ".0.*", 2: ".*"}.get(parts, ""))
    return sorted(found)


if __name__ == "__main__":
    print(*constraints(requirements()), sep="\n")
