"""What the package promises as a whole."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastprune

ROOT = Path(__file__).resolve().parents[1]
needs_source_tree = pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="needs the source tree")


def test_every_public_name_exists_and_is_documented():
    for name in fastprune.__all__:
        assert getattr(fastprune, name).__doc__, name


def test_import_does_not_pull_in_the_frameworks():
    frameworks = {"transformers", "datasets", "lightning", "pytorch_lightning", "triton", "pandas"}
    code = f"import sys, fastprune; print(sorted({frameworks} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_every_registered_method_has_a_card_with_source_and_cost():
    from fastprune.methods import METHOD_CARDS
    from fastprune.pruning import method_names

    assert sorted(METHOD_CARDS) == method_names()
    for name, card in METHOD_CARDS.items():
        assert "Cost: " in card and "Memory: " in card, name


def test_an_unbuilt_source_tree_says_what_to_run(tmp_path):
    hidden = shutil.ignore_patterns("*.so", "*.pyd", "__pycache__")
    shutil.copytree(Path(fastprune.__file__).parent, tmp_path / "fastprune", ignore=hidden)
    # The working directory goes first; an editable installation would still find another tree's core.
    code = "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'ditable' not in str(f)]; import fastprune"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    last = result.stderr.strip().splitlines()[-1]
    assert result.returncode != 0 and last == (
        "ImportError: fastprune's C++ core is not built for this Python: run `pip install .` in the source tree, or "
        "`python setup.py build_ext --inplace` to use it where it lies"
    )
    assert "During handling" not in result.stderr


@needs_source_tree
def test_the_version_stands_in_one_place():
    result = subprocess.run(
        [sys.executable, "setup.py", "--quiet", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.split()[-1] == fastprune.__version__
    assert fastprune.__version__ not in (ROOT / "pyproject.toml").read_text()


@needs_source_tree
def test_without_a_compiler_the_build_says_what_is_missing(tmp_path):
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    (tmp_path / "fastprune").mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "fastprune/__init__.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    environment = {**os.environ, "CC": "/no/such/compiler", "CXX": "/no/such/compiler"}
    result = subprocess.run(
        [sys.executable, "setup.py", "build_ext"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode != 0
    assert "fastprune needs a C++17 compiler (g++ or clang++)" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
