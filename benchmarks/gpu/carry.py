"""What travels to the GPU machine beside the checkout, in the folder .gpu, which git ignores.

    python -m gpu.carry [--python python3.12]     # makes .gpu: make gpu-carry

    wheels/          Liger's wheel
    core/DIGEST/     the extension, built for the machine's Python
    triton/          the kernels compiled for sm_90 by Triton's wheel for that Python
    commit           the commit that the checkout had

Everything is optional there. The extension is used only if it loads and was built from the same sources. Triton uses a
compiled kernel only if its key is the same: the key is made of Triton's own files, its compiled library among them
(one for each Python version), the assembler's version, the kernel's source, and its arguments' types and flags. So the
cache is made with the wheel of the machine's Python. No path is in the key, but paths are in the cache's files:
`install_cache` puts in those of the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from gpu import sources

FOLDER = sources.ROOT / ".gpu"
EXTENSION = "_core" + (sysconfig.get_config_var("EXT_SUFFIX") or ".so")
LIGER = "liger-kernel==0.8.5"
TRITON = "triton==3.6.0"
ARCH = 90
LIMIT_BYTES = 40 * 2**20  # of the 64 MiB that travel


def core_loads(extension: Path = sources.ROOT / "fastprune" / EXTENSION) -> bool:
    """Whether the extension loads, in a fresh process; fastprune itself, which imports PyTorch, is not needed."""
    program = (
        "import importlib.util as u, sys; s = u.spec_from_file_location('fastprune._core', sys.argv[1]); "
        "s.loader.exec_module(u.module_from_spec(s))"
    )
    command = [sys.executable, "-c", program, str(extension)]
    return extension.exists() and subprocess.run(command, capture_output=True).returncode == 0


def install_core(root: Path = sources.ROOT) -> bool:
    """Put a carried extension of the same sources in its place; whether there was one that loads."""
    carried = root / ".gpu" / "core" / sources.core_digest(root) / EXTENSION
    if not core_loads(carried):
        return False
    shutil.copy(carried, root / "fastprune" / EXTENSION)
    return True


def install_cache(carried: Path = FOLDER / "triton") -> Path | None:
    """Copy a carried Triton cache to $TRITON_CACHE_DIR; None if there is nothing to copy or no such variable."""
    target = os.environ.get("TRITON_CACHE_DIR")
    if not carried.is_dir() or not target:
        return None
    shutil.copytree(carried, target, dirs_exist_ok=True)
    relocate(Path(target))
    return Path(target)


def relocate(cache: Path) -> None:
    """Write the paths of this folder into a cache that was made in another one."""
    for group in cache.glob("*/__grp__*.json"):
        children = json.loads(group.read_text())["child_paths"]
        moved = {name: str(group.parent / Path(path).name) for name, path in children.items()}
        group.write_text(json.dumps({"child_paths": moved}))


def _run(*command: str | Path, **env: str) -> None:
    subprocess.run([str(part) for part in command], cwd=sources.ROOT, env=os.environ | env, check=True)


def found_python(wanted: str) -> str | None:
    """A Python that runs: the one wanted, or pyenv's newest of that name, which its own command may refuse to start."""
    candidates = [wanted, *sorted(map(str, Path.home().glob(f".pyenv/versions/*/bin/{wanted}")), reverse=True)]
    for candidate in candidates:
        try:
            if subprocess.run([candidate, "--version"], capture_output=True).returncode == 0:
                return candidate
        except OSError:
            continue
    return None


def _environment(python: str, folder: Path) -> Path:
    """The Python of a virtual environment with Triton and what builds the extension, but without PyTorch."""
    inside = folder / "bin" / "python"
    if not inside.exists():
        _run(python, "-m", "venv", folder)
        _run(inside, "-m", "pip", "install", "--quiet", TRITON, "setuptools>=77", "pybind11>=2.12")
    return inside


def build_core(python: Path) -> Path:
    """The extension for that Python, in its folder."""
    target = FOLDER / "core" / sources.core_digest()
    if not any(target.glob("_core.*")):
        shutil.rmtree(FOLDER / "core", ignore_errors=True)
        temporary = sources.ROOT / "build" / "carried"
        _run(python, "setup.py", "-q", "build_ext", "--build-lib", temporary, "--build-temp", temporary / "objects")
        target.mkdir(parents=True)
        for built in temporary.glob("fastprune/_core.*"):
            shutil.copy(built, target)
    return target


def build_cache(python: Path) -> int:
    """The compiled kernels, without what only people read; how many there are."""
    from gpu.compile_ahead import compile_all

    cache = FOLDER / "triton"
    shutil.rmtree(cache, ignore_errors=True)
    os.environ["TRITON_CACHE_DIR"] = str(cache)
    report = compile_all(ARCH, os.cpu_count() or 1, toy=False, python=str(python))
    for path in cache.rglob("*"):
        # A hit reads every file that the group names, and a launch the machine code alone.
        if path.suffix in (".source", ".ttir", ".ttgir", ".llir", ".ptx") and path.is_file():
            path.write_bytes(b"")
    failed = [variant for variant in report["variants"] if "failed" in variant]
    if failed:
        sys.exit(f"{len(failed)} of {len(report['variants'])} kernels do not compile: {failed[0]['failed']}")
    return len(report["variants"])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default="python3.12", help="the GPU machine's version")
    parser.add_argument("--environment", type=Path, default=sources.ROOT / ".venv-carry")
    args = parser.parse_args(arguments)
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "commit").write_text((sources.commit() or "unknown") + "\n")
    wheels = FOLDER / "wheels"
    if not any(wheels.glob("liger_kernel-*.whl")):
        _run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", wheels, LIGER)
    found = found_python(args.python)
    if found is None:
        print(f"no {args.python} here: the machine will build the extension and compile the kernels itself")
    else:
        python = _environment(found, args.environment)
        print(f"extension: {build_core(python)}")
        print(f"kernels compiled for sm_{ARCH}: {build_cache(python)}")
    size = sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file())
    print(f"{FOLDER.name}: {size / 2**20:.1f} MiB travel")
    if size > LIMIT_BYTES:
        sys.exit(f"more than {LIMIT_BYTES / 2**20:.0f} MiB: it would not fit beside the checkout")


if __name__ == "__main__":
    main()
