"""The count of code lines in `make lint`, on a small made-up source."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / ".ci" / "code_size.py"
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="needs the source tree")

SOURCE = '''"""A docstring,
of two lines."""

# A comment.
import functools  # with a comment after it


@functools.cache
def short(
    a,  # one

    b,
):
    """A docstring."""
    text = """not
    a docstring"""

    return a + b, text


class Outer:
    """A docstring
    of two lines.
    """

    value = 1
    """What documents an attribute."""

    def method(self):
        # A comment.
        def inner():
            return 1

        return inner
'''


@pytest.fixture(scope="module")
def code_size():
    specification = importlib.util.spec_from_file_location("code_size", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    sys.modules["code_size"] = module
    specification.loader.exec_module(module)
    yield module
    del sys.modules["code_size"]


def test_lines_count_where_code_stands(code_size):
    found = {part.name: (part.kind, part.line, part.lines) for part in code_size.parts(SOURCE)}
    assert found == {
        "": ("file", 1, 15),
        "short": ("function", 9, 8),  # decorator, def, a, b, ), two lines of text, return
        "Outer": ("class", 21, 6),
        "Outer.method": ("function", 29, 4),
        "Outer.method.inner": ("function", 31, 2),
    }


@pytest.fixture
def tree(tmp_path):
    """A package with a function of 51 lines of code, one of 50, a class of 201 and a file of 3."""
    package = tmp_path / "fastprune" / "part"
    package.mkdir(parents=True)

    def function(name, lines):
        return f"def {name}():\n    '''Doc.'''\n" + "\n\n    # A comment.\n".join(["    pass"] * (lines - 1)) + "\n"

    body = "\n".join(f"    a{i} = {i}" for i in range(200))
    source = f"{function('long', 51)}\n{function('right', 50)}\nclass Long:\n{body}\n"
    (package / "code.py").write_text(source)
    (tmp_path / "fastprune" / "small.py").write_text("a = 1\nb = 2\nc = 3\n")
    return tmp_path


def test_what_is_too_long_is_found_and_exceptions_are_held_to_be_needed(code_size, tree):
    found = code_size.findings(tree, {}, {"fastprune/small.py": 2})
    assert [line.split(";")[0] for line in found] == [
        "fastprune/part/code.py:1: function long has 51 lines of code, more than 50",
        found[1].split(";")[0],
        "fastprune/small.py:1: file fastprune/small.py has 3 lines of code, more than 2",
    ]
    assert "class Long has 201 lines of code, more than 200" in found[1]
    excepted = dict.fromkeys(["fastprune/part/code.py:long", "fastprune/part/code.py:Long"], "it must be")
    assert code_size.findings(tree, excepted, {"fastprune/small.py": 3}) == []
    excepted["fastprune/part/code.py:right"] = "it was longer"
    (stale,) = code_size.findings(tree, excepted, {})
    assert stale.startswith("fastprune/part/code.py:right is excepted") and stale.endswith("take it out")


def test_the_script_ends_with_status_1_where_it_finds_something(tree):
    run = subprocess.run([sys.executable, str(SCRIPT), str(tree)], capture_output=True, text=True)
    assert run.returncode == 1 and "function long has 51 lines of code" in run.stdout


def test_exceptions_have_a_reason(code_size):
    assert all(len(reason) > 20 for reason in code_size.EXCEPTIONS.values())
