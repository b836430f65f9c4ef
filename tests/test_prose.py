"""The prose report in `make lint`, on a small made-up package."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / ".ci" / "prose.py"
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="needs the source tree")

LONG = "This sentence has " + "very " * 22 + "many words."

SOURCE = f'''"""A module.  It has two sentences; one has a semicolon.

    x = 1; a formula; no prose

{LONG}
"""

LIMIT = 3
"""What documents an attribute."""


def function(a):
    """Return ``a; b; c``, as e.g. a literal would.

    Args:
        a: the first; its entry has a semicolon.
        b (int, optional): the second
            goes on here.

    Cost: nothing.

    >>> function(1); function(2)
    1; 2
    """
    text = "no docstring; no prose"
    return text
'''
PAGE = """# A title; not counted

A paragraph
of two lines; with a [link; too](a;b.md).

```python
code; code
```

| a; b | c |

- An item
- Another one

:::{note}
A note counts.
:::
"""


@pytest.fixture(scope="module")
def prose():
    specification = importlib.util.spec_from_file_location("prose", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    sys.modules["prose"] = module
    specification.loader.exec_module(module)
    yield module
    del sys.modules["prose"]


@pytest.fixture
def tree(tmp_path):
    for name, source in (("room/module.py", SOURCE), ("plain.py", '"""One sentence."""\n')):
        path = tmp_path / "fastprune" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    (tmp_path / "README.md").write_text(PAGE)
    return tmp_path


def test_sentences_are_those_of_prose_alone(prose, tree):
    rooms = {room.name: room for room in prose.rooms(tree)}
    assert list(rooms) == ["fastprune/*.py", "room", "pages"]
    assert [(sentence.place.split(":")[1], sentence.text) for sentence in rooms["room"].sentences] == [
        ("1", "A module."),
        ("1", "It has two sentences; one has a semicolon."),
        ("5", LONG),
        ("9", "What documents an attribute."),
        ("13", "Return Literal, as e.g a literal would."),
        ("16", "the first; its entry has a semicolon."),
        ("17", "the second goes on here."),
        ("20", "Cost: nothing."),
    ]
    assert [sentence.text for sentence in rooms["pages"].sentences] == [
        "A paragraph of two lines; with a [link; too].",
        "An item",
        "Another one",
        "A note counts.",
    ]


def test_numbers_of_a_room(prose, tree):
    room = prose.rooms(tree)[1]
    words = 2 + 8 + 27 + 4 + 7 + 7 + 5 + 2
    assert room.words == words
    assert room.semicolons == pytest.approx(1000 * 2 / words)
    assert room.share == pytest.approx(100 * 7 / 8)
    assert not room.passes
    assert [fault.split(": ")[0].split(":")[1] for fault in prose.faults(room)] == ["1", "5", "16"]


def test_a_sentence_ends_before_a_literal_and_before_a_name_in_small_letters(prose):
    text = "It works. `name` is one. fastprune is another (see Fig. 1). 4 of them do (B, T, C). Yes!"
    assert len(list(prose.sentences("x", 1, iter([(0, text)])))) == 5


def test_the_limit_decides_the_status(tree):
    def run(*options):
        return subprocess.run([sys.executable, str(SCRIPT), str(tree), *options], capture_output=True, text=True)

    assert run().returncode == 0
    failed = run("--limit", "--show", "room")
    assert failed.returncode == 1 and "misses" in failed.stdout and LONG in failed.stdout
    (tree / "fastprune" / "room" / "module.py").unlink()
    (tree / "README.md").unlink()
    assert run("--limit").returncode == 0
