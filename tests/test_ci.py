"""What the Makefile and the workflows run: the core without PyTorch, the oldest versions, and targets that exist."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastprune

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / ".ci" / "oldest.py").exists(), reason="needs the source tree")


@pytest.fixture(scope="module")
def oldest():
    specification = importlib.util.spec_from_file_location("oldest", ROOT / ".ci" / "oldest.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_core_works_without_pytorch():
    script, folder = ROOT / ".ci" / "core_alone.py", Path(fastprune.__file__).parent
    said = subprocess.run([sys.executable, script, folder], capture_output=True, text=True)
    assert said.returncode == 0 and said.stdout.startswith("the core works"), said.stderr


def test_the_oldest_version_of_each_package_is_its_oldest_series(oldest):
    lines = [
        "numpy>=1.26",
        "rich>=13",
        "seqeval>=1.2.2",
        "own[extra]",
        "triton>=3.2; os == 'x'",
        "exact==1.0",
        "mypy>=1.11",
    ]
    assert oldest.constraints(lines) == ["numpy==1.26.*", "rich==13.0.*", "seqeval==1.2.2", "triton==3.2.*"]


def test_every_package_that_tests_need_has_an_oldest_version(oldest):
    named = {re.match(r"[\w.-]+", line)[0] for line in oldest.requirements() if ">=" in line}
    found = {line.split("==")[0] for line in oldest.constraints(oldest.requirements())}
    assert {"torch", "numpy", "triton", "transformers", "accelerate", "lightning"} <= found == named - oldest.TOOLS


def test_workflows_call_targets_of_the_makefile_and_nothing_else():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = [
        command
        for path in (ROOT / ".github" / "workflows").glob("*.yml")
        for command in re.findall(r"- run: (.*)", path.read_text())
    ]
    assert len(commands) >= 7
    assert [command for command in commands if not re.match(r"make [\w-]+", command)] == []
    assert {command.split()[1] for command in commands} <= targets


def test_targets_that_contributors_read_of_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text() + (ROOT / "README.md").read_text()
    named = set(re.findall(r"`make ([\w-]+)`", text)) | set(re.findall(r"^make ([\w-]+)", text, re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    assert len(named) > 10 and named <= set(phony)
