"""The functions of PyTorch that the GPU path calls, held against those of the GPU machine's release.

    python -m gpu.torch_functions                       # the check: what is called must be in torch_2_11.txt
    python -m gpu.torch_functions --sources FOLDER      # writes that file anew from the sources of a release

PyTorch 2.11 exists only as a CUDA build, which cannot be imported without gigabytes of libraries. So the names were
looked up in the Python sources and stubs of its wheel, and the file keeps where each is.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from gpu.sources import ROOT

KNOWN = Path(__file__).with_name("torch_2_11.txt")
# What a call on the GPU machine runs, apart from the command line, the data readers and the integrations.
PARTS = (
    "fastprune/*.py",
    "fastprune/scores/*.py",
    "fastprune/selection/*.py",
    "fastprune/pruning/*.py",
    "fastprune/methods/*.py",
    "benchmarks/measure.py",
    "benchmarks/providers.py",
    "benchmarks/gpu/**/*.py",
)
ALIASES = {"F": "torch.nn.functional"}


def dotted(node: ast.AST) -> str | None:
    """`torch.cuda.Event` of such an expression; None of another."""
    if isinstance(node, ast.Name):
        return ALIASES.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else None
    return None


def names_in(source: str, methods: frozenset[str]) -> Iterator[str]:
    """Names below `torch`, and `Tensor.NAME` for every method call with the name of a tensor's method."""
    tree = ast.parse(source)
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module != "torch.nn.functional")
        elif isinstance(node, ast.Attribute) and id(node) not in inner:
            name = dotted(node)
            if name and name.startswith("torch."):
                yield name
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name = dotted(node.func) or ""
            if node.func.attr in methods and not name.startswith(("torch.", "np.", "tl.", "triton.")):
                yield f"Tensor.{node.func.attr}"


def called() -> dict[str, list[str]]:
    """Name -> the files that use it."""
    import torch

    methods = frozenset(name for name in dir(torch.Tensor) if not name.startswith("_"))
    found: dict[str, list[str]] = {}
    for pattern in PARTS:
        for path in sorted(ROOT.glob(pattern)):
            for name in names_in(path.read_text(), methods):
                files = found.setdefault(name, [])
                if path.name not in files:
                    files.append(path.name)
    return dict(sorted(found.items()))


def known() -> dict[str, str]:
    """Name -> where the release defines it."""
    lines = [line for line in KNOWN.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("\t") for line in lines)


def defined_at(name: str, folder: Path) -> str | None:
    """The file below a release's sources that defines a name: a module, a package that imports it, or a stub."""
    parts = name.split(".")
    if parts[0] == "Tensor":
        return _first(parts[-1], folder, ["torch/_C/__init__.pyi", "torch/_tensor.py"])
    if parts[:3] == ["torch", "ops", "fastprune"]:
        return "our own operator"
    for end in range(len(parts), 0, -1):
        module = "/".join(parts[:end])
        files = [
            f for f in (f"{module}.py", f"{module}/__init__.py", f"{module}/__init__.pyi") if (folder / f).exists()
        ]
        if files and end == len(parts):
            return files[0]
        if files:
            stars = re.findall(r"(?m)^from ([\w.]+) import \*", (folder / files[0]).read_text())
            files += [f"{star.replace('.', '/')}/__init__.py" for star in stars]
            if module == "torch":
                files += ["torch/_C/_VariableFunctions.pyi", "torch/_C/__init__.pyi"]
            return _first(parts[-1], folder, files)
    return None


def _first(name: str, folder: Path, files: list[str]) -> str | None:
    """The first file that defines the name or imports it."""
    defines = rf"^\s*(async )?(def|class) {name}\b|^\s*{name}\s*[:=]|import.*\b{name}\b"
    listed = rf"""^\s*["']?{name}["']?(,| as {name},?)?$"""  # in an import or __all__ of several lines
    for file in files:
        if (folder / file).exists() and re.search(f"{defines}|{listed}", (folder / file).read_text(), re.MULTILINE):
            return file
    return None


def write(folder: Path) -> list[str]:
    """Write KNOWN from a release's sources; the names that were not found there."""
    places = {name: defined_at(name, folder) for name in called()}
    head = (
        "# What the GPU path calls of PyTorch, and where release 2.11.0 defines it; written by gpu.torch_functions.\n"
    )
    KNOWN.write_text(head + "".join(f"{name}\t{place}\n" for name, place in places.items() if place))
    return [name for name, place in places.items() if not place]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=Path, help="the folder that holds a release's torch/")
    args = parser.parse_args()
    if args.sources:
        print("not found there:", write(args.sources) or "none")
    names, there = called(), known()
    unknown = {name: files for name, files in names.items() if name not in there}
    for name, files in unknown.items():
        print(f"not known to be in PyTorch 2.11: {name} ({', '.join(files)})")
    print(f"{len(names)} functions of PyTorch are called, {len(unknown)} of them not known to be in 2.11")
    if unknown:
        print(
            f"look them up in its documentation, and add a line for each to {KNOWN.name}: the name, a tab, where it is"
        )
    sys.exit(bool(unknown))


if __name__ == "__main__":
    main()
